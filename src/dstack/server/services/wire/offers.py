"""Offers, machines and what they have, on the wire."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dstack.control.scheduling import Candidate, share
from dstack.model.offer import Offer, Resources
from dstack.server.services.wire.memo import once_each
from dstack.server.services.wire.values import backend
from dstack.values.memory import format_memory

# `runner`: no container engine in between; `shim`: a host whose engine runs containers.
_RUNTIMES = {"process": "runner"}


def candidate(value: Candidate) -> dict[str, Any]:
    """An instance or offer that fits; what it has and its price are of the blocks that would be taken."""
    return offer(
        value.offer,
        availability=str(value.availability),
        blocks=value.blocks,
        total_blocks=value.total_blocks,
        more={
            "x_fleet": value.fleet.name if value.fleet else None,
            "x_instance": value.instance.name if value.instance else None,
        },
    )


def offer(
    value: Offer,
    *,
    availability: str | None = None,
    blocks: int = 1,
    total_blocks: int = 1,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Of so many blocks: their share of the machine and of its price."""
    part = share(value.resources, blocks, total_blocks)
    return {
        "backend": backend(value.backend),
        "instance": {"name": value.instance_type, "resources": resources(part)},
        "region": value.region,
        "price": value.price * blocks / total_blocks,
        "backend_data": {},
        "availability": availability or str(value.availability),
        "availability_zones": list(value.zones) or None,
        "instance_runtime": _RUNTIMES.get(value.runtime, "shim"),
        "blocks": blocks,
        "total_blocks": total_blocks,
        "x_backend": value.backend,
        "x_runtime": value.runtime,
    } | (more or {})


@once_each
def instance_type(value: Offer) -> dict[str, Any]:
    return {"name": value.instance_type, "resources": resources(value.resources)}


def resources(value: Resources) -> dict[str, Any]:
    return {
        "cpus": value.cpus,
        "memory_mib": value.memory_mib,
        "gpus": [{"name": g.name, "memory_mib": g.memory_mib, "vendor": g.vendor} for g in value.gpus],
        "spot": value.spot,
        "disk": {"size_mib": value.disk_mib},
        "cpu_arch": value.cpu_arch,
        "description": description(value),
    }


def description(value: Resources) -> str:
    """For instance `cpu=8 mem=32GB disk=100GB gpu=A100:40GB:2 (spot)`."""
    parts = [f"cpu={value.cpus}", f"mem={_size(value.memory_mib)}"]
    if value.disk_mib:
        parts.append(f"disk={_size(value.disk_mib)}")
    for (name, memory_mib), count in Counter((g.name, g.memory_mib) for g in value.gpus).items():
        parts.append(f"gpu={name}:{_size(memory_mib)}:{count}")
    return " ".join(parts) + (" (spot)" if value.spot else "")


def _size(mib: int) -> str:
    return format_memory(round(mib / 1024, 1) if mib >= 1024 else mib / 1024)
