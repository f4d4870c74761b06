"""Matching one machine with one set of needs, in named stages; the first stage that fails says by how much."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from dstack.control.scheduling.gpus import gpu_miss
from dstack.control.scheduling.needs import Needs, Span, span_text
from dstack.control.scheduling.reasons import Miss
from dstack.control.wording import price, size
from dstack.model.offer import Offer, Resources


@dataclass(frozen=True, slots=True)
class Machine:
    """What is matched: an offer, or the share of one that some blocks are, with its share of the price ($ per hour).
    `created` is an existing instance."""

    offer: Offer
    resources: Resources
    price: float
    created: bool = False


def first_miss(needs: Needs, machine: Machine) -> Miss | None:
    """Why the machine does not fit, or None when it does."""
    for stage in _STAGES:
        miss = stage(needs, machine)
        if miss is not None:
            return _owned(miss, needs.owner)
    return None


def all_misses(needs: Needs, machine: Machine) -> list[Miss]:
    """All that would have to change for the machine to fit."""
    return [_owned(miss, needs.owner) for stage in _STAGES if (miss := stage(needs, machine)) is not None]


def share(resources: Resources, blocks: int, total_blocks: int) -> Resources:
    """The part of a machine that `blocks` of `total_blocks` are; the disk is shared whole."""
    if blocks == total_blocks:
        return resources
    return resources.model_copy(
        update={
            "cpus": resources.cpus * blocks // total_blocks,
            "memory_mib": resources.memory_mib * blocks // total_blocks,
            "gpus": resources.gpus[: len(resources.gpus) * blocks // total_blocks],
        }
    )


def fit_blocks(needs: Needs, offer: Offer, total_blocks: int, *, created: bool, whole: bool) -> int | Miss:
    """The fewest blocks that fit, or why none do."""
    fewest = total_blocks if whole else _fewest_blocks(needs, offer, total_blocks)
    miss: Miss | None = None
    # Shares are rounded down: the number that was computed may fall one short.
    for blocks in range(fewest, min(fewest + 1, total_blocks) + 1):
        part = share(offer.resources, blocks, total_blocks)
        found = first_miss(needs, Machine(offer, part, offer.price * blocks / total_blocks, created))
        if found is None:
            return blocks
        if miss is None or found.closer_than(miss):
            miss = found
    assert miss is not None  # 1 <= fewest <= total_blocks
    return miss


def _fewest_blocks(needs: Needs, offer: Offer, total_blocks: int) -> int:
    """The least number of blocks that has enough of everything; more would only exceed upper bounds sooner."""
    if total_blocks == 1:
        return 1
    lenient = needs.defaulted if offer.lenient_defaults else frozenset[str]()
    has = offer.resources
    asked = [
        (needs.cpu.low, has.cpus, "cpu"),
        (needs.memory.low, has.memory_mib, "memory"),
        (needs.gpu.count.min if needs.gpu else None, len(has.gpus), "gpu"),
    ]
    fewest = [math.ceil(low * total_blocks / all_) for low, all_, name in asked if low and all_ and name not in lenient]
    return min(max(fewest, default=1), total_blocks)


def _owned(miss: Miss, owner: str | None) -> Miss:
    if owner is None:
        return miss
    hint = f"in fleet '{owner}', {miss.hint}" if miss.hint else None
    return replace(miss, reason=f"fleet '{owner}': {miss.reason}", hint=hint)


def _backend(needs: Needs, m: Machine) -> Miss | None:
    return _listed("backend", "backends", needs.backends, m.offer.backend)


def _region(needs: Needs, m: Machine) -> Miss | None:
    return _listed("region", "regions", needs.regions, m.offer.region)


def _zone(needs: Needs, m: Machine) -> Miss | None:
    zones = m.offer.zones
    if needs.zones is None or not zones or any(z.lower() in needs.zones for z in zones):
        return None
    return _listed("zone", "availability_zones", needs.zones, zones[0])


def _instance_type(needs: Needs, m: Machine) -> Miss | None:
    return _listed("instance_type", "instance_types", needs.instance_types, m.offer.instance_type)


def _listed(stage: str, field: str, allowed: frozenset[str] | None, has: str) -> Miss | None:
    if allowed is None or has.lower() in allowed:
        return None
    wanted = ", ".join(sorted(allowed))
    return Miss(stage, f"not in `{field}: {wanted}`", 1.0, nearest=has, hint=f"add {has} to `{field}`")


def _spot(needs: Needs, m: Machine) -> Miss | None:
    if needs.spot is None or needs.spot == m.offer.spot:
        return None
    wanted, has = ("spot", "on-demand") if needs.spot else ("on-demand", "spot")
    return Miss("spot", f"needs {wanted}", 1.0, nearest=has, hint="set `spot_policy: auto`")


def _runtime(needs: Needs, m: Machine) -> Miss | None:
    if needs.needs_containers and m.offer.runtime == "process":
        fields = ", ".join(f"`{f}`" for f in needs.needs_containers)
        reason = f"{fields} cannot be honoured where tasks run as processes, without a container engine"
        return Miss("runtime", reason, 1.0, hint=f"remove {fields}, or use a machine with Docker")
    if needs.privileged and m.offer.containers_only:
        asked = "docker: true" if "docker" in needs.needs_containers else "privileged"
        return Miss("runtime", f"backend {m.offer.backend} runs containers only, without `{asked}`", 1.0)
    if needs.host_folders and m.offer.containers_only:
        reason = f"backend {m.offer.backend} runs containers only, without instance volumes"
        return Miss("runtime", reason, 1.0, hint="write `optional: true` in `volumes` to go on without")
    return None


def _gpu(needs: Needs, m: Machine) -> Miss | None:
    if needs.gpu is None or _lenient(needs, m, "gpu"):
        return None
    return gpu_miss(needs.gpu, m.resources.gpus)  # pyright: ignore[reportArgumentType]


def _cpu(needs: Needs, m: Machine) -> Miss | None:
    if needs.arch is not None and needs.arch != m.resources.cpu_arch:
        return Miss("cpu", f"needs {needs.arch} cores", 1.0, nearest=m.resources.cpu_arch)
    if _lenient(needs, m, "cpu"):
        return None
    return _outside("cpu", needs.cpu, m.resources.cpus, memory=False)


def _memory(needs: Needs, m: Machine) -> Miss | None:
    if _lenient(needs, m, "memory"):
        return None
    # The person's own machine cannot be had smaller: there a maximum limits the job, not the choice.
    span = Span(needs.memory.low, None) if m.offer.lenient_defaults else needs.memory
    return _outside("memory", span, m.resources.memory_mib)


def _disk(needs: Needs, m: Machine) -> Miss | None:
    if needs.disk is None or _lenient(needs, m, "disk") or (m.offer.elastic_disk and not m.created):
        return None
    return _outside("disk", needs.disk, m.resources.disk_mib)


def _lenient(needs: Needs, m: Machine, name: str) -> bool:
    # The disk of a host that somebody brings cannot be chosen, and jobs share it anyway.
    own_disk = name == "disk" and m.offer.backend == "ssh"
    return (m.offer.lenient_defaults or own_disk) and name in needs.defaulted


def _outside(stage: str, span: Span, has: float, *, memory: bool = True) -> Miss | None:
    distance = span.miss(has)
    if distance == 0:
        return None
    text = size(has) if memory else f"{has:g}"
    too_little = span.low is not None and has < span.low
    reason = f"needs {span_text(span, memory=memory)}"
    return Miss(stage, reason, distance, nearest=text, hint=f"set `{stage}: {text}..`" if too_little else None)


def _price(needs: Needs, m: Machine) -> Miss | None:
    cost = m.price
    if needs.max_price is None or cost <= needs.max_price:
        return None
    distance = (cost - needs.max_price) / needs.max_price
    return Miss("price", f"max_price is {price(needs.max_price)}", distance, price(cost), f"set `max_price: {cost:g}`")


def _availability(needs: Needs, m: Machine) -> Miss | None:
    if m.created or m.offer.availability.usable:
        return None
    return Miss("availability", "the backend has none now", 1.0, nearest=m.offer.availability.replace("_", " "))


_STAGES: tuple[Callable[[Needs, Machine], Miss | None], ...] = (
    _backend,
    _region,
    _zone,
    _instance_type,
    _spot,
    _runtime,
    _gpu,
    _cpu,
    _memory,
    _disk,
    _price,
    _availability,
)
