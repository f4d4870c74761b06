"""Runs, their jobs and submissions, plans."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.service import ServiceConfiguration
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.job import JobStatus, JobTerminationReason, PlacementReport
from dstack.model.profile import Profile, RetryEvent
from dstack.model.resources import ResourcesSpec
from dstack.model.run import RunStatus, RunTerminationReason
from dstack.model.wire.responses.base import Answer, Backend, OwnBackend, Plain
from dstack.model.wire.responses.fleets import PlanReport
from dstack.model.wire.responses.machines import InstanceOffer, InstanceType, PlanOffer, Runtime


class FileArchiveMapping(Answer):
    id: UUID
    path: str


class RunSpec(Answer):
    run_name: str | None
    repo_id: str | None
    repo_data: Plain | None
    repo_code_hash: str | None
    repo_dir: str | None
    file_archives: list[FileArchiveMapping]
    working_dir: str | None
    configuration_path: str | None
    configuration: TaskConfiguration | ServiceConfiguration | DevEnvironmentConfiguration
    profile: Profile | None
    ssh_key_pub: str | None


class Requirements(Answer):
    resources: ResourcesSpec
    max_price: float | None
    spot: bool | None
    """True: spot alone, false: on-demand alone, null: both."""
    reservation: str | None
    multinode: bool | None
    backend_options: list[Plain] | None


class AppSpec(Answer):
    port: int
    map_to_port: int | None
    app_name: str


class UnixUser(Answer):
    uid: int | None
    gid: int | None
    username: str | None
    groupname: str | None


class Retry(Answer):
    on_events: list[RetryEvent]
    duration: int
    """Seconds."""


class JobSpec(Answer):
    replica_num: int
    job_num: int
    job_name: str
    jobs_per_replica: int
    app_specs: list[AppSpec]
    user: UnixUser | None
    commands: list[str]
    env: dict[str, str]
    home_dir: str | None
    image_name: str
    privileged: bool
    max_duration: int | None
    """Seconds."""
    stop_duration: int | None
    registry_auth: None
    """Credentials are never shown."""
    requirements: Requirements
    retry: Retry | None
    volumes: list[Plain]
    ssh_key: Plain | None
    working_dir: str | None


class SSHConnectionParams(Answer):
    hostname: str
    username: str
    port: int


class Hop(Answer):
    hostname: str
    port: int
    user: str


class AttachHost(Answer):
    """The machine to go through."""

    hostname: str | None
    port: int
    user: str
    proxy: Hop | None
    """Through which it is reached, with the person's own key."""
    host_key: str | None
    """`type base64`; null while it is not known."""


class Attach(Answer):
    port: int | None
    """On the loopback of the host; null: nobody gets in, and `message` says why."""
    message: str
    user: str | None = None
    host_key: str | None = None
    """The job's own, `type base64`."""
    host: AttachHost | None = None
    """Null: the job runs on the server's own machine."""


class JobProvisioningData(Answer):
    backend: Backend
    instance_type: InstanceType
    instance_id: str
    hostname: str | None
    """Where its host is reached over SSH; of jobs on the server's own machine, where they are."""
    region: str
    price: float
    """$ per hour of the blocks that the job holds."""
    username: str
    ssh_port: int | None
    ssh_proxy: SSHConnectionParams | None
    dockerized: bool
    """Whether people go through the host to get in."""
    x_backend: OwnBackend
    x_runtime: Runtime
    x_fleet: str
    x_instance: str


class JobRuntimeData(Answer):
    network_mode: Literal["host", "bridge"]
    gpu: int | None
    ports: dict[str, int] | None
    """Ports of the host by ports of the container."""
    volume_names: list[str] | None
    offer: InstanceOffer
    working_dir: str | None
    username: str | None


class ImagePullProgress(Answer):
    downloaded_bytes: int
    extracted_bytes: int
    total_bytes: int
    is_total_bytes_final: bool


class JobSubmission(Answer):
    id: UUID
    submission_num: int
    deployment_num: int
    submitted_at: datetime
    last_processed_at: datetime
    finished_at: datetime | None
    inactivity_secs: int | None
    status: JobStatus
    status_message: str
    """For people: `exited (1)`, `no capacity`, `stopped`."""
    termination_reason: JobTerminationReason | None
    termination_reason_message: str | None
    exit_status: int | None
    job_provisioning_data: JobProvisioningData | None
    job_runtime_data: JobRuntimeData | None
    error: str | None
    probes: list[Plain]
    image_pull_progress: ImagePullProgress | None
    x_placement: PlacementReport | None
    """What the last look for a machine found."""
    x_attach: Attach | None
    """How to get in over SSH, while the job runs."""
    x_unreachable_since: datetime | None
    """Since when the host of the job does not answer; the job has the status that was known last."""


class Job(Answer):
    job_spec: JobSpec
    job_submissions: list[JobSubmission]
    """The oldest first."""
    job_connection_info: Plain | None


class RunFleet(Answer):
    id: UUID
    name: str


class Run(Answer):
    id: UUID
    project_name: str
    user: str
    fleet: RunFleet | None
    submitted_at: datetime
    last_processed_at: datetime
    status: RunStatus
    status_message: str
    termination_reason: RunTerminationReason | None
    run_spec: RunSpec
    jobs: list[Job]
    latest_job_submission: JobSubmission | None
    cost: float
    """$ so far."""
    service: Plain | None
    deployment_num: int
    error: str | None
    deleted: bool
    next_triggered_at: datetime | None
    x_exit_status: int | None
    """The first exit code that is not 0 among those of the last attempt."""
    x_waiting_for: str | None
    x_finished_at: datetime | None
    x_stop_requested: bool


class JobPlan(Answer):
    job_spec: JobSpec
    offers: list[PlanOffer]
    total_offers: int
    max_price: float | None


class RunPlan(Answer):
    project_name: str
    user: str
    run_spec: RunSpec
    effective_run_spec: RunSpec
    job_plans: list[JobPlan]
    current_resource: Run | None
    action: Literal["create", "update"]
    x_report: PlanReport | None
    x_notices: list[str]
    x_refusals: list[str]
    """Why an apply would be refused."""
    x_next_triggered_at: datetime | None
    """When a scheduled run would start."""


class WatchedRun(Answer):
    run: Run | None
    """Null: there is none of that name."""
    seen: int
    """For the next call, which then waits for what is newer."""


class JobWhy(Answer):
    name: str
    status: JobStatus
    reason: JobTerminationReason | None
    message: str | None
    placement: PlacementReport | None
    waiting_for: str | None
    deadline: float | None
    """Seconds since the epoch."""


class RunWhy(Answer):
    name: str
    status: RunStatus
    status_message: str
    jobs: list[JobWhy]
    lines: list[str]
    """For people."""
