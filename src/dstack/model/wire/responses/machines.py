"""Machines: what they have, what they cost, offers of them and groups of offers."""

from __future__ import annotations

from typing import Literal

from dstack.model.offer import Availability
from dstack.model.wire.responses.base import Answer, Backend, OwnBackend, Plain, Span

Vendor = Literal["nvidia", "amd", "google", "intel", "tenstorrent"]
Runtime = Literal["process", "docker"]


class Gpu(Answer):
    name: str
    memory_mib: int
    vendor: Vendor


class Disk(Answer):
    size_mib: int


class MachineResources(Answer):
    cpus: int
    memory_mib: int
    gpus: list[Gpu]
    spot: bool
    disk: Disk
    cpu_arch: Literal["x86", "arm"]
    description: str
    """For people: `cpu=8 mem=32GB disk=100GB gpu=A100:40GB:2 (spot)`."""


class InstanceType(Answer):
    name: str
    resources: MachineResources


class InstanceOffer(Answer):
    """An offer of a backend, or an instance that is there."""

    backend: Backend
    instance: InstanceType
    region: str
    price: float
    """$ per hour of the blocks that would be taken."""
    backend_data: Plain
    availability: Availability
    availability_zones: list[str] | None
    instance_runtime: Literal["shim", "runner"]
    blocks: int
    total_blocks: int
    x_backend: OwnBackend
    x_runtime: Runtime


class PlanOffer(InstanceOffer):
    x_fleet: str | None
    x_instance: str | None


class Group(Answer):
    """Offers of one kind. `backends` and `regions` where the group is not split by them."""

    availability: list[Availability]
    spot: list[Literal["spot", "on-demand"]]
    count: Span
    price: Span
    """$ per hour of one GPU, or of the machine where no GPU is asked for."""
    backends: list[Backend] | None
    backend: Backend | None
    regions: list[str] | None
    region: str | None
    x_backends: list[OwnBackend] | None
    x_backend: OwnBackend | None


class GpuGroup(Group):
    name: str
    memory_mib: int
    vendor: Vendor
    offer_price: Span
    """$ per hour of whole machines."""


class CpuGroup(Group):
    cpu_arch: list[Literal["x86", "arm"]]
    memory_mib: Span


class ListGpusResponse(Answer):
    gpus: list[GpuGroup]
    cpus: list[CpuGroup] | None
    """Where no GPU is asked for."""
