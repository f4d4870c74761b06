"""Jobs: one row is one submission (attempt) of one node or replica of a run."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from dstack.model.host import RemoteHost
from dstack.model.offer import Offer
from dstack.model.profile import RetryEvent, StartupOrder, StopCriteria
from dstack.model.requirements import Requirements
from dstack.model.row import Row, table


class JobStatus(StrEnum):
    SUBMITTED = "submitted"
    PROVISIONING = "provisioning"
    PULLING = "pulling"
    RUNNING = "running"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    ABORTED = "aborted"
    FAILED = "failed"
    DONE = "done"


class JobTerminationReason(StrEnum):
    """Why a job ended. `final_status` and `retry_event` say what follows from it."""

    FAILED_TO_START_DUE_TO_NO_CAPACITY = "failed_to_start_due_to_no_capacity"
    INTERRUPTED_BY_NO_CAPACITY = "interrupted_by_no_capacity"
    INSTANCE_UNREACHABLE = "instance_unreachable"
    WAITING_INSTANCE_LIMIT_EXCEEDED = "waiting_instance_limit_exceeded"
    WAITING_RUNNER_LIMIT_EXCEEDED = "waiting_runner_limit_exceeded"
    TERMINATED_BY_USER = "terminated_by_user"
    ABORTED_BY_USER = "aborted_by_user"
    TERMINATED_BY_SERVER = "terminated_by_server"
    MAX_DURATION_EXCEEDED = "max_duration_exceeded"
    TERMINATED_DUE_TO_UTILIZATION_POLICY = "terminated_due_to_utilization_policy"
    INACTIVITY_DURATION_EXCEEDED = "inactivity_duration_exceeded"
    CONTAINER_EXITED_WITH_ERROR = "container_exited_with_error"
    CREATING_CONTAINER_ERROR = "creating_container_error"
    EXECUTOR_ERROR = "executor_error"
    LOG_QUOTA_EXCEEDED = "log_quota_exceeded"
    DONE_BY_RUNNER = "done_by_runner"

    @property
    def final_status(self) -> JobStatus:
        return _FINAL.get(self, JobStatus.FAILED)

    @property
    def retry_event(self) -> RetryEvent | None:
        """The event of `retry.on_events` that covers it; None is never retried."""
        if self.final_status is not JobStatus.FAILED:
            return None
        if self is JobTerminationReason.FAILED_TO_START_DUE_TO_NO_CAPACITY:
            return RetryEvent.NO_CAPACITY
        if self is JobTerminationReason.INTERRUPTED_BY_NO_CAPACITY:
            return RetryEvent.INTERRUPTION
        return RetryEvent.ERROR


_FINAL = {
    JobTerminationReason.TERMINATED_BY_USER: JobStatus.TERMINATED,
    JobTerminationReason.TERMINATED_BY_SERVER: JobStatus.TERMINATED,
    JobTerminationReason.MAX_DURATION_EXCEEDED: JobStatus.TERMINATED,
    JobTerminationReason.TERMINATED_DUE_TO_UTILIZATION_POLICY: JobStatus.TERMINATED,
    JobTerminationReason.INACTIVITY_DURATION_EXCEEDED: JobStatus.TERMINATED,
    JobTerminationReason.ABORTED_BY_USER: JobStatus.ABORTED,
    JobTerminationReason.DONE_BY_RUNNER: JobStatus.DONE,
}


class Retry(BaseModel):
    """`on_events` are retried while the series of failures is younger than `duration_s`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_events: tuple[RetryEvent, ...]
    duration_s: float


class Utilization(BaseModel):
    """The job ends when one of its GPUs stays below `least_percent` for `window_s`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_percent: int
    window_s: float


class JobArchive(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    hash: str  # sha256 of the blob
    path: str


class JobRepo(BaseModel):
    """A Git repository in the job: `branch` at `hash`, with the uploaded changes `code_hash` on top."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    url: str | None = None  # without credentials; None: only those who registered it know
    branch: str | None = None
    hash: str | None = None
    code_hash: str | None = None  # of the blob
    path: str = "."
    if_exists: Literal["error", "skip"] = "error"
    single_branch: bool = True
    user_name: str | None = None
    user_email: str | None = None


class JobMount(BaseModel):
    """A folder of the host in the job: at `path` of the host, or kept there by the agent under `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    path: str = ""
    name: str = ""
    optional: bool = False


class JobIde(BaseModel):
    """The server of an IDE that is put in while the job starts; `number` or `commit` may be ""."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    number: str
    commit: str


class JobSpec(BaseModel):
    """Everything that is known at submission about how to run the job. May hold `${{ secrets.X }}` unresolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    job_num: int = 0
    replica_num: int = 0
    jobs_per_replica: int = 1
    groups: tuple[int, ...] = ()  # how many nodes each group of a task has; () without groups
    startup_order: StartupOrder = StartupOrder.ANY
    stop_criteria: StopCriteria = StopCriteria.ALL_DONE
    requirements: Requirements
    image: str | None = None  # None: the server's default image, or none under the process runtime
    user: str | None = None
    docker: bool = False  # an engine of its own, started before the commands
    nvcc: bool = False  # the image with the CUDA compiler
    dstack: bool = False  # is told how to reach the server
    privileged: bool = False
    shell: str = "/bin/sh"
    script: str | None = None
    ide: JobIde | None = None
    entrypoint: tuple[str, ...] | None = None
    commands: tuple[str, ...] = ()  # as written
    working_dir: str | None = None
    home_dir: str | None = None
    python: str | None = None
    registry_username: str | None = None
    registry_password: str | None = None
    env: dict[str, str] = {}
    archives: tuple[JobArchive, ...] = ()
    repo: JobRepo | None = None
    mounts: tuple[JobMount, ...] = ()
    ports: tuple[dict[str, Any], ...] = ()  # {"container_port", "local_port"}
    shm_gb: float | None = None
    cpu_limit: float | None = None  # cores; only where the person wrote an upper bound
    memory_limit_gb: float | None = None
    max_duration_s: float | None = None
    stop_duration_s: float = 300.0
    idle_duration_s: float | None = 300.0  # of an instance that is created for it; None: never ends by idling
    retry: Retry | None = None
    utilization: Utilization | None = None
    inactivity_duration_s: float | None = None  # the job ends when nobody has been in for so long


class JobSession(BaseModel):
    """How people get into a running job, by the agent: the door itself is port 10022 of `port_mapping`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = ""  # the name to log in with
    host_key: str = ""  # `type base64`, the job's own
    message: str = ""  # why nobody gets in
    inactive_since: float | None = None  # None while somebody is in; by the server's clock
    told_since: float | None = None  # the same as the agent told it, by the host's clock
    warned: bool = False  # that it ends soon unless somebody enters


class JobPlace(BaseModel):
    """Where a job was placed, copied at placement so that it outlives the instance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet_id: str
    fleet_name: str
    instance_id: str
    instance_name: str
    offer: Offer
    blocks: int
    total_blocks: int
    hostname: str | None = None
    created_instance: bool = False  # the instance was made for this job
    remote: RemoteHost | None = None  # a host of the person's own


class DropReason(BaseModel):
    """Why matching dropped a group of offers or instances, as data.

    `stage` is the filter (`fleet`, `backend`, `region`, `spot`, `gpu`, `memory`, `disk`, `price`, `busy`, ...), `count`
    how many it dropped, `nearest` the closest miss in words, `hint` the smallest change that would help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    reason: str
    count: int = 1
    nearest: str | None = None
    hint: str | None = None


class HostMiss(BaseModel):
    """A host of somebody's own that cannot take the job, and what stands in the way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: str  # `lab-0`
    host: str  # as RemoteHost.key
    reason: str


class PlacementReport(BaseModel):
    """The funnel of the last turn in which the queue looked at a job.

    `hosts` are the first of those that do not fit, `more_hosts` how many others there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    considered: int = 0
    fitting: int = 0
    drops: tuple[DropReason, ...] = ()
    waiting_for: str | None = None
    hosts: tuple[HostMiss, ...] = ()
    more_hosts: int = 0


class Job(Row):
    kind: ClassVar[str] = "job"
    transitions: ClassVar[dict[str, frozenset[str]]] = table(
        {
            JobStatus.SUBMITTED: {JobStatus.PROVISIONING, JobStatus.TERMINATING},
            # Back to submitted: the instance could not be had, the next offer is tried.
            JobStatus.PROVISIONING: {
                JobStatus.SUBMITTED,
                JobStatus.PULLING,
                JobStatus.RUNNING,
                JobStatus.TERMINATING,
            },
            JobStatus.PULLING: {JobStatus.RUNNING, JobStatus.TERMINATING},
            JobStatus.RUNNING: {JobStatus.TERMINATING},
            JobStatus.TERMINATING: {JobStatus.TERMINATED, JobStatus.ABORTED, JobStatus.FAILED, JobStatus.DONE},
            JobStatus.TERMINATED: set(),
            JobStatus.ABORTED: set(),
            JobStatus.FAILED: set(),
            JobStatus.DONE: set(),
        }
    )

    run_id: str
    run_name: str
    user_id: str
    replica_num: int = 0
    job_num: int = 0
    submission_num: int = 0
    status: JobStatus = JobStatus.SUBMITTED
    spec: JobSpec
    priority: int = 0
    submitted_at: float
    last_processed_at: float
    # Placement.
    instance_id: str | None = None
    place: JobPlace | None = None
    tried_offers: tuple[str, ...] = ()  # keys of offers that had no capacity for this submission
    placement: PlacementReport | None = None
    # Deadlines: stored absolute times.
    provisioning_deadline: float | None = None
    ready_since: float | None = None  # its instance was linked: the other nodes of its gang may count on it
    running_since: float | None = None
    max_duration_deadline: float | None = None
    utilization_check_at: float | None = None  # the use of its GPUs is measured then
    terminating_deadline: float | None = None
    # What the agent told.
    task_started: bool = False  # the agent accepted it: it must be removed there in the end
    working_dir: str | None = None
    username: str | None = None
    port_mapping: dict[str, int] = {}
    session: JobSession | None = None
    task_ended: bool = False  # the agent said that nothing of it runs any more
    stop_grace_s: float | None = None  # grace of the last stop that was sent; None: none was
    exit_status: int | None = None
    # Intent, written by the run's decision.
    stop_reason: JobTerminationReason | None = None
    stop_message: str | None = None
    # Outcome.
    termination_reason: JobTerminationReason | None = None
    termination_message: str | None = None
    finished_at: float | None = None

    @property
    def enterable(self) -> bool:
        """People may be in it: it runs, or it has been asked to end and saves its work."""
        if self.status is JobStatus.TERMINATING:
            return self.running_since is not None and not self.task_ended
        return self.status is JobStatus.RUNNING

    @property
    def is_gang(self) -> bool:
        """It is one of several nodes, which start and end together."""
        return self.spec.jobs_per_replica > 1
