"""What a job or a fleet asks of a machine: the input of matching."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from dstack.model.resources import ResourcesSpec


class Requirements(BaseModel):
    """All constraints that decide whether an offer or an instance fits. None means unconstrained.

    `spot`: True only spot, False only on-demand, None both. `max_price` is $ per hour.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resources: ResourcesSpec
    max_price: float | None = None
    spot: bool | None = None
    reservation: str | None = None
    multinode: bool = False
    backends: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    zones: tuple[str, ...] | None = None
    instance_types: tuple[str, ...] | None = None
    fleets: tuple[str, ...] | None = None  # names
    instances: tuple[str, ...] | None = None  # names
    reuse_only: bool = False  # creation_policy: reuse
    needs_containers: tuple[str, ...] = ()  # fields of the job that the process runtime cannot honour
    privileged: bool = False
    host_folders: bool = False  # instance volumes, those without which the job cannot run
