"""Observations: what effect handlers and host links saw, in the past tense.

They lie in the inbox of their resource until a decision consumes them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dstack.model.host import HostReport
from dstack.model.instance import HostInfo, ProvisioningData
from dstack.model.offer import Offer


class _Observation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class InstanceCreated(_Observation):
    """`offer` and `report` come with hosts of one's own: what they have is known when they were looked at."""

    type: Literal["instance_created"] = "instance_created"
    data: ProvisioningData
    offer: Offer | None = None
    report: HostReport | None = None


class HostUnfit(_Observation):
    """A host of one's own was looked at, or could not be, and cannot be used as it is."""

    type: Literal["host_unfit"] = "host_unfit"
    report: HostReport


class HostTrouble(_Observation):
    """Why a host that does not answer does not, as far as that can be seen from here."""

    type: Literal["host_trouble"] = "host_trouble"
    message: str


class NoCapacity(_Observation):
    """The backend has none of it now; another offer may work."""

    type: Literal["no_capacity"] = "no_capacity"
    message: str = ""


class CreateFailed(_Observation):
    """The backend refused for a reason that another try of the same order would meet again."""

    type: Literal["create_failed"] = "create_failed"
    message: str = ""


class Gone(_Observation):
    """Verified: the backend has nothing under the instance's token any more.

    With a `message` it is not: the machine is a person's own, costs nothing, and was given up.
    """

    type: Literal["gone"] = "gone"
    message: str = ""


class Vanished(_Observation):
    """The backend no longer lists a machine that we did not terminate (preempted, deleted by hand)."""

    type: Literal["vanished"] = "vanished"
    message: str = ""
    preempted: bool = False


class LinkUp(_Observation):
    type: Literal["link_up"] = "link_up"
    host: HostInfo


class HostHealth(_Observation):
    """How the accelerators of a linked host are now."""

    type: Literal["host_health"] = "host_health"
    health: Literal["healthy", "warning", "failure"]
    message: str = ""


class LinkDown(_Observation):
    type: Literal["link_down"] = "link_down"
    message: str = ""


class TaskAccepted(_Observation):
    type: Literal["task_accepted"] = "task_accepted"


class TaskRefused(_Observation):
    """The task can never start as it is asked for (bad secret reference, agent says the request is illegal)."""

    type: Literal["task_refused"] = "task_refused"
    message: str


class TaskReported(_Observation):
    """The agent's report of a task; fields as in `agentapi.wire.TaskReport`."""

    type: Literal["task_reported"] = "task_reported"
    state: str
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    working_dir: str = ""
    user: str = ""
    ports: dict[str, int] = {}
    started_at: float | None = None
    finished_at: float | None = None
    session_user: str = ""
    session_host_key: str = ""
    session_message: str = ""
    inactive_since: float | None = None


class GpusMeasured(_Observation):
    """For so long one of the task's GPUs has been used less than its policy asks, without a break."""

    type: Literal["gpus_measured"] = "gpus_measured"
    idle_s: float


class TaskLost(_Observation):
    """The agent was linked and does not know a task that it had accepted."""

    type: Literal["task_lost"] = "task_lost"


class TaskRemoved(_Observation):
    """The log is stored to its end and the host keeps nothing of the task."""

    type: Literal["task_removed"] = "task_removed"


class Stranger(BaseModel):
    """A machine that is listed under our tag and that no living instance answers for.

    `instance_id` and `instance_name`: the terminated instance whose token it carries, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str
    backend_id: str
    created_at: float | None = None
    instance_id: str | None = None
    instance_name: str | None = None


class Swept(_Observation):
    """A backend's list, asked for at `at`, differs from our rows in this. The ids are of instances and of orphans."""

    type: Literal["swept"] = "swept"
    at: float
    strangers: tuple[Stranger, ...] = ()
    unlisted: tuple[str, ...] = ()
    unlisted_orphans: tuple[str, ...] = ()


class BackendRemoved(_Observation):
    """The project has no such backend any more, or is gone itself."""

    type: Literal["backend_removed"] = "backend_removed"


class Adopted(_Observation):
    """A living instance answers for the machine that was taken for an orphan."""

    type: Literal["adopted"] = "adopted"


class Retained(_Observation):
    """Retention deleted so many rows and files, by what they were; `more`: there was not time for all."""

    type: Literal["retained"] = "retained"
    removed: dict[str, int] = {}
    more: bool = False


Observation = Annotated[
    InstanceCreated
    | HostUnfit
    | HostTrouble
    | NoCapacity
    | CreateFailed
    | Gone
    | Vanished
    | LinkUp
    | LinkDown
    | HostHealth
    | TaskAccepted
    | TaskRefused
    | TaskReported
    | GpusMeasured
    | TaskLost
    | TaskRemoved
    | Swept
    | BackendRemoved
    | Adopted
    | Retained,
    Field(discriminator="type"),
]
observation_adapter: TypeAdapter[Observation] = TypeAdapter(Observation)
