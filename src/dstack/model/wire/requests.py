"""Request bodies. Envelopes ignore fields that they do not know: clients of other versions send more, or less.

`run_spec`, `spec` and what lies in them stay plain data here; the services read them strictly.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from pydantic import UUID4, BaseModel, ConfigDict, Field, model_validator

PROJECT_NAME = r"^[a-zA-Z0-9-_]{1,50}$"
USER_NAME = r"^[a-zA-Z0-9-_]{1,60}$"
SECRET_NAME = r"^[A-Za-z0-9-_]{1,200}$"


# Entries become parameters of one statement, of which the databases take 32,000.
Entry = TypeVar("Entry")
Many = Annotated[list[Entry], Field(max_length=10_000)]
Filter = Annotated[list[Entry], Field(max_length=1000)]  # up to 17 of them in one query


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


# Users and projects.


class ListUsers(Body):
    return_total_count: bool = False
    name_pattern: str | None = None
    prev_created_at: datetime | None = None
    prev_id: UUID | None = None
    limit: Annotated[int, Field(ge=1, le=2000)] = 2000
    ascending: bool = False


class Username(Body):
    username: str


class SaveUser(Body):
    username: str
    global_role: Literal["admin", "user"]
    email: str | None = None
    active: bool = True
    x_projects_quota: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class DeleteUsers(Body):
    users: Many[str]


class AddPublicKey(Body):
    key: Annotated[str, Field(max_length=16_384)]
    name: Annotated[str, Field(max_length=200)] | None = None


class Ids(Body):
    ids: Many[UUID]


class NextRedirect(Body):
    code: str
    state: str


class ListProjects(Body):
    include_not_joined: bool = True
    username: str | None = None
    return_total_count: bool = False
    name_pattern: str | None = None
    prev_created_at: datetime | None = None
    prev_id: UUID | None = None
    limit: Annotated[int, Field(ge=1, le=2000)] = 2000
    ascending: bool = False


class CreateProject(Body):
    project_name: str
    is_public: bool = False
    templates_repo: Annotated[str, Field(max_length=500)] | None = None


class UpdateProject(Body):
    is_public: bool | None = None
    templates_repo: Annotated[str, Field(max_length=500)] | None = None
    reset_templates_repo: bool = False


class DeleteProjects(Body):
    projects_names: Many[str]


class MemberSetting(Body):
    username: str
    project_role: Literal["admin", "manager", "user"]


class Members(Body):
    members: Many[MemberSetting]


class Usernames(Body):
    usernames: Many[str]


# Runs.


class ListRuns(Body):
    project_name: str | None = None
    repo_id: str | None = None
    username: str | None = None
    only_active: bool = False
    include_jobs: bool = True
    job_submissions_limit: Annotated[int, Field(ge=0)] | None = None
    prev_submitted_at: datetime | None = None
    prev_run_id: UUID | None = None
    limit: Annotated[int, Field(ge=0, le=100)] = 100
    ascending: bool = False


class GetRun(Body):
    run_name: str | None = None
    id: UUID | None = None


class GetRunPlan(Body):
    run_spec: dict[str, Any]
    max_offers: Annotated[int, Field(ge=0)] | None = None
    reverse_offers: bool = False
    full_offers: bool = False
    unallocated_resources: bool = False
    for_offers_only: bool = False


class RunPlanInput(Body):
    run_spec: dict[str, Any]
    current_resource: dict[str, Any] | None = None


class ApplyRunPlan(Body):
    plan: RunPlanInput
    force: bool = False


class StopRuns(Body):
    runs_names: Many[str]
    abort: bool = False


class DeleteRuns(Body):
    runs_names: Many[str]


class WatchRun(Body):
    run_name: str | None = None
    id: UUID | None = None
    seen: int | None = None
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.0


class RunName(Body):
    run_name: str


# Fleets and instances.


class ListFleets(Body):
    project_name: str | None = None
    only_active: bool = False
    include_imported: bool = False
    prev_created_at: datetime | None = None
    prev_id: UUID | None = None
    limit: Annotated[int, Field(ge=0, le=100)] = 100
    ascending: bool = False


class ListProjectFleets(Body):
    include_imported: bool = False


class GetFleet(Body):
    name: str | None = None
    id: UUID | None = None


class GetFleetPlan(Body):
    spec: dict[str, Any]


class FleetPlanInput(Body):
    spec: dict[str, Any]
    current_resource: dict[str, Any] | None = None


class ApplyFleetPlan(Body):
    plan: FleetPlanInput
    force: bool = False


class Names(Body):
    names: Many[str]


class Name(Body):
    name: str


class DeleteFleets(Body):
    """`x_abandon`: do not wait for hosts of one's own that do not answer."""

    names: Many[str]
    x_abandon: bool = False


class DeleteFleetInstances(Body):
    name: str
    instance_nums: Many[Annotated[int, Field(ge=0, lt=2**31)]]
    x_abandon: bool = False


class CordonInstances(Body):
    """`cordon` None lets the instances take new jobs again; `instance_nums` None are all of the fleet."""

    name: str
    instance_nums: Many[Annotated[int, Field(ge=0, lt=2**31)]] | None = None
    cordon: Literal["cordoned", "draining"] | None = None


class ListInstances(Body):
    project_names: Filter[str] | None = None
    fleet_ids: Filter[UUID] | None = None
    only_active: bool = False
    include_imported: bool = False
    prev_created_at: datetime | None = None
    prev_id: UUID | None = None
    limit: Annotated[int, Field(ge=0, le=1000)] = 1000
    ascending: bool = False


class GetInstance(Body):
    id: UUID


class InstanceHealthChecks(Body):
    fleet_name: str
    instance_num: Annotated[int, Field(ge=0, lt=2**31)]


# Logs, events, secrets, files, repos, offers.


class PollLogs(Body):
    run_name: str
    job_submission_id: UUID4
    start_time: datetime | None = None
    end_time: datetime | None = None
    descending: bool = False
    next_token: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    diagnose: bool = False


class FollowLogs(Body):
    job_submission_id: UUID4
    offset: Annotated[int, Field(ge=0, lt=2**62)] = 0
    wait: bool = True


class ListEvents(Body):
    target_projects: Filter[UUID] | None = None
    target_users: Filter[UUID] | None = None
    target_fleets: Filter[UUID] | None = None
    target_instances: Filter[UUID] | None = None
    target_runs: Filter[UUID] | None = None
    target_jobs: Filter[UUID] | None = None
    target_volumes: Filter[UUID] | None = None
    target_gateways: Filter[UUID] | None = None
    target_gateway_replicas: Filter[UUID] | None = None
    target_secrets: Filter[UUID] | None = None
    target_presets: Filter[UUID] | None = None
    within_projects: Filter[UUID] | None = None
    within_fleets: Filter[UUID] | None = None
    within_runs: Filter[UUID] | None = None
    within_gateways: Filter[UUID] | None = None
    include_target_types: Filter[str] | None = None
    actors: Filter[UUID | None] | None = None
    prev_recorded_at: datetime | None = None
    prev_id: UUID | None = None
    limit: Annotated[int, Field(ge=0, le=100)] = 100
    ascending: bool = False


class SaveSecret(Body):
    name: str
    value: str


class DeleteSecrets(Body):
    secrets_names: Many[str]


class ArchiveHash(Body):
    hash: str


class GetRepo(Body):
    repo_id: str
    include_creds: bool = False


class RepoInfo(Body):
    """What clients say of a repository: `repo_name` of a remote one, `repo_dir` of a local one."""

    repo_type: Literal["remote", "local", "virtual"]
    repo_name: str | None = None
    repo_dir: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {"remote": "repo_name", "local": "repo_dir"}.get(self.repo_type)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{needed} is missing")
        return self


class RepoCreds(Body):
    """How to clone: an HTTPS or SSH address, and a token or a private key for it. No credentials: a public one."""

    clone_url: Annotated[str, Field(max_length=2_000)]
    private_key: Annotated[str | None, Field(max_length=32_768, repr=False)] = None
    oauth_token: Annotated[str | None, Field(max_length=4_096, repr=False)] = None


class SaveRepo(Body):
    repo_id: Annotated[str, Field(max_length=200)]
    repo_info: RepoInfo
    repo_creds: RepoCreds | None = None


class DeleteRepos(Body):
    repos_ids: Many[str]


class ListGpus(Body):
    run_spec: dict[str, Any]
    group_by: list[Literal["backend", "region", "count"]] | None = None
    reverse: bool = False
    full_offers: bool = False
    unallocated_resources: bool = False


# What a project of this release has none of.


class CreateVolume(Body):
    configuration: dict[str, Any]


class GatewaySpec(Body):
    configuration: dict[str, Any]


class GetGatewayPlan(Body):
    spec: GatewaySpec


class ApplyGatewayPlan(Body):
    plan: GetGatewayPlan
    force: bool = False


class ChatCompletions(Body):
    model: str


class Upstream(Body):
    id: str


class OrphanToken(Body):
    """The token of an orphaned machine, as the list has it."""

    token: Annotated[str, Field(min_length=1, max_length=200)]
