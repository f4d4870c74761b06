"""Instances: one machine (or slot) that is paid for, from the wish for it to the proof that it is gone."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from dstack.ids import derived_id
from dstack.model.host import HostReport, RemoteHost
from dstack.model.offer import Offer
from dstack.model.row import Row, table


class InstanceStatus(StrEnum):
    PENDING = "pending"
    PROVISIONING = "provisioning"
    IDLE = "idle"
    BUSY = "busy"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


class InstanceTerminationReason(StrEnum):
    TERMINATED_BY_USER = "terminated_by_user"
    IDLE_TIMEOUT = "idle_timeout"
    PROVISIONING_TIMEOUT = "provisioning_timeout"
    ERROR = "error"
    UNREACHABLE = "unreachable"
    NO_OFFERS = "no_offers"
    MAX_INSTANCES_LIMIT = "max_instances_limit"
    FLEET_SPEC_MISMATCH = "fleet_spec_mismatch"


class Cordon(StrEnum):
    """Why no new job is placed on an instance: a person said so, for as long as they like or until it is empty."""

    CORDONED = "cordoned"
    DRAINING = "draining"  # becomes CORDONED when the last job has left


class ProvisioningData(BaseModel):
    """What the backend says of a created instance. `backend_data` is the backend's own and opaque to the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend_id: str  # the id by which the backend knows it
    hostname: str | None = None
    internal_ip: str | None = None
    addresses: tuple[str, ...] = ()  # all of the machine, as `10.0.0.5/24`, where they are known
    ssh_port: int | None = None
    username: str = ""
    backend_data: dict[str, Any] = {}


class HostInfo(BaseModel):
    """What the agent found on the host when it was last linked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hostname: str = ""
    boot_id: str = ""
    runtime: str = "docker"
    engine_version: str = ""
    agent_version: str = ""
    cpus: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: int = 0
    gpu_driver: str = ""
    user: str = ""
    health: Literal["healthy", "warning", "failure"] = "healthy"  # of its accelerators
    health_message: str = ""
    health_at: float | None = None  # when it was told so
    unknown_tasks: int = 0  # that have not ended and that no job answers for, as after an old backup was restored


class Instance(Row):
    kind: ClassVar[str] = "instance"
    transitions: ClassVar[dict[str, frozenset[str]]] = table(
        {
            InstanceStatus.PENDING: {InstanceStatus.PROVISIONING, InstanceStatus.TERMINATING},
            InstanceStatus.PROVISIONING: {InstanceStatus.IDLE, InstanceStatus.BUSY, InstanceStatus.TERMINATING},
            InstanceStatus.IDLE: {InstanceStatus.BUSY, InstanceStatus.TERMINATING},
            InstanceStatus.BUSY: {InstanceStatus.IDLE, InstanceStatus.TERMINATING},
            InstanceStatus.TERMINATING: {InstanceStatus.TERMINATED},
            InstanceStatus.TERMINATED: set(),
        }
    )

    fleet_id: str
    fleet_name: str
    name: str
    num: int
    status: InstanceStatus = InstanceStatus.PENDING
    offer: Offer
    total_blocks: int = 1
    busy_blocks: int = 0
    idle_duration_s: float | None = None  # None: never ends by idling
    remote: RemoteHost | None = None  # where it is, when it is a host of the person's own
    # Facts.
    data: ProvisioningData | None = None
    host: HostInfo | None = None
    linked: bool = False  # the agent has been reached since the instance was created, or since it was last lost
    unreachable_since: float | None = None
    unreachable_message: str | None = None
    report: HostReport | None = None  # what the last look at a host of one's own found
    preempted: bool = False  # the provider took it back
    started_at: float | None = None  # paid from here
    # Deadlines.
    provisioning_deadline: float | None = None
    idle_since: float | None = None
    idle_deadline: float | None = None
    unreachable_deadline: float | None = None
    # Intent, written by routes or by the fleet's decision.
    terminate_requested: InstanceTerminationReason | None = None
    terminate_message: str | None = None
    cordon: Cordon | None = None
    setup_requested_at: float | None = None  # look at the host again, and mend what can be mended
    abandon_requested_at: float | None = None  # do not wait for it to be proven gone
    # Outcome.
    termination_reason: InstanceTerminationReason | None = None
    termination_message: str | None = None
    finished_at: float | None = None

    @property
    def token(self) -> str:
        """What the backend knows the machine by: the token of the act that creates it."""
        return derived_id(self.id, "act:create_instance", 0)

    @property
    def going(self) -> bool:
        """It is being terminated, or is gone already: nothing new happens on it."""
        return self.status in (InstanceStatus.TERMINATING, InstanceStatus.TERMINATED)

    @property
    def leaving(self) -> bool:
        """It is going, or has been asked to."""
        return self.going or self.terminate_requested is not None

    @property
    def unneeded(self) -> bool:
        """It goes because nothing needed it, and nobody asked for its end."""
        reasons = (InstanceTerminationReason.IDLE_TIMEOUT, InstanceTerminationReason.MAX_INSTANCES_LIMIT)
        return self.terminate_requested in reasons

    @property
    def unknown_tasks(self) -> int:
        """How many tasks run there that no job answers for. They are somebody's: nothing else happens there."""
        return self.host.unknown_tasks if self.host is not None else 0

    @property
    def free_blocks(self) -> int:
        return self.total_blocks - self.busy_blocks
