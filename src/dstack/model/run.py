"""Runs: what a person submitted, and where it stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.profile import Profile
from dstack.model.row import Row, table


class RunStatus(StrEnum):
    PENDING = "pending"
    SUBMITTED = "submitted"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FAILED = "failed"
    DONE = "done"


class RunTerminationReason(StrEnum):
    ALL_JOBS_DONE = "all_jobs_done"
    JOB_FAILED = "job_failed"
    RETRY_LIMIT_EXCEEDED = "retry_limit_exceeded"
    STOPPED_BY_USER = "stopped_by_user"
    ABORTED_BY_USER = "aborted_by_user"
    MAX_DURATION_EXCEEDED = "max_duration_exceeded"
    TERMINATED_DUE_TO_UTILIZATION_POLICY = "terminated_due_to_utilization_policy"
    INACTIVITY_DURATION_EXCEEDED = "inactivity_duration_exceeded"
    SERVER_ERROR = "server_error"

    @property
    def final_status(self) -> RunStatus:
        """The status in which a run that terminates for this reason ends."""
        if self is RunTerminationReason.ALL_JOBS_DONE:
            return RunStatus.DONE
        if self in (
            RunTerminationReason.STOPPED_BY_USER,
            RunTerminationReason.ABORTED_BY_USER,
            RunTerminationReason.MAX_DURATION_EXCEEDED,
            RunTerminationReason.TERMINATED_DUE_TO_UTILIZATION_POLICY,
            RunTerminationReason.INACTIVITY_DURATION_EXCEEDED,
        ):
            return RunStatus.TERMINATED
        return RunStatus.FAILED


class FileArchiveMapping(BaseModel):
    """An uploaded archive (`id` of the upload, `hash` of its bytes) and where it is unpacked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    path: str
    hash: str = ""


def _type(configuration: Any) -> str:
    """Older rows leave out that they are tasks."""
    own = configuration.get("type") if isinstance(configuration, dict) else getattr(configuration, "type", None)
    return str(own or "task")


class RunSpec(BaseModel):
    """The intent: the configuration with everything that the client added. Immutable once submitted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_name: str | None = None
    configuration: Annotated[
        Annotated[TaskConfiguration, Tag("task")] | Annotated[DevEnvironmentConfiguration, Tag("dev-environment")],
        Discriminator(_type),
    ]
    profile: Profile | None = None
    configuration_path: str | None = None
    working_dir: str | None = None
    file_archives: tuple[FileArchiveMapping, ...] = ()
    repo_id: str | None = None
    repo_data: dict[str, Any] | None = None
    repo_code_hash: str | None = None
    repo_dir: str | None = None
    ssh_key_pub: str | None = None


class Run(Row):
    kind: ClassVar[str] = "run"
    transitions: ClassVar[dict[str, frozenset[str]]] = table(
        {
            RunStatus.PENDING: {RunStatus.SUBMITTED, RunStatus.TERMINATING},
            RunStatus.SUBMITTED: {RunStatus.PROVISIONING, RunStatus.RUNNING, RunStatus.PENDING, RunStatus.TERMINATING},
            RunStatus.PROVISIONING: {RunStatus.SUBMITTED, RunStatus.RUNNING, RunStatus.PENDING, RunStatus.TERMINATING},
            RunStatus.RUNNING: {
                RunStatus.SUBMITTED,
                RunStatus.PROVISIONING,
                RunStatus.PENDING,
                RunStatus.TERMINATING,
            },
            # Back to pending: a scheduled run waits for its next time.
            RunStatus.TERMINATING: {RunStatus.PENDING, RunStatus.TERMINATED, RunStatus.FAILED, RunStatus.DONE},
            RunStatus.TERMINATED: set(),
            RunStatus.FAILED: set(),
            RunStatus.DONE: set(),
        }
    )

    name: str
    user_id: str
    status: RunStatus = RunStatus.SUBMITTED
    spec: RunSpec
    priority: int = 0
    submitted_at: float
    last_processed_at: float
    termination_reason: RunTerminationReason | None = None
    termination_message: str | None = None
    finished_at: float | None = None
    attempt: int = 0  # ordinal of the current submissions of its jobs
    retry_since: float | None = None  # when the present series of failures began
    retry_attempts: int = 0  # resubmissions in that series
    next_attempt_at: float | None = None  # a pending run is resubmitted then
    next_triggered_at: float | None = None  # a pending run starts then by its schedule
    fleet_id: str | None = None
    # Intents, written by routes.
    stop_requested_at: float | None = None
    stop_actor_id: str | None = None
    abort_requested: bool = False
    deleted: bool = False
