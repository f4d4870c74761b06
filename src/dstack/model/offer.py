"""What a backend can provide: resources, instance types and priced offers."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gpu(_Noun):
    name: str
    memory_mib: int
    vendor: str = "nvidia"


class Resources(_Noun):
    """What one machine has. Sizes in MiB; `memory_mib` and `disk_mib` are nominal."""

    cpus: int
    memory_mib: int
    gpus: tuple[Gpu, ...] = ()
    disk_mib: int = 0
    spot: bool = False
    cpu_arch: str = "x86"


class Availability(StrEnum):
    UNKNOWN = "unknown"
    AVAILABLE = "available"
    NOT_AVAILABLE = "not_available"
    NO_QUOTA = "no_quota"
    NO_BALANCE = "no_balance"
    IDLE = "idle"
    BUSY = "busy"

    @property
    def usable(self) -> bool:
        return self in (self.UNKNOWN, self.AVAILABLE, self.IDLE)


class Offer(_Noun):
    """One instance type in one region at one price ($ per hour)."""

    backend: str
    region: str
    instance_type: str
    resources: Resources
    price: float
    availability: Availability = Availability.UNKNOWN
    zones: tuple[str, ...] = ()
    runtime: str = "docker"  # docker | process: what runs the tasks there
    containers_only: bool = False  # no machine of one's own: no pre-provisioning, blocks, privileged
    elastic_disk: bool = False  # the disk can be created with the size that is asked for
    # Values that a person did not write never drop this offer (a person's own machine).
    lenient_defaults: bool = False
    server_id: str | None = None  # the machine is that of one server, and no other reaches it

    @property
    def spot(self) -> bool:
        return self.resources.spot

    @property
    def key(self) -> str:
        """Names the offer among all offers; used to not try a failed one again at once."""
        return f"{self.backend}/{self.region}/{self.instance_type}{'/spot' if self.spot else ''}"
