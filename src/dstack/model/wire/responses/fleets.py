"""Fleets and their instances."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.fleet import FleetStatus
from dstack.model.host import Finding
from dstack.model.instance import Cordon, InstanceStatus, InstanceTerminationReason
from dstack.model.job import PlacementReport
from dstack.model.profile import Profile
from dstack.model.wire.responses.base import Answer, Backend, OwnBackend, Plain
from dstack.model.wire.responses.machines import InstanceType, PlanOffer, Runtime


class Instance(Answer):
    id: UUID
    project_name: str
    backend: Backend
    instance_type: InstanceType | None
    """null: a host of one's own that nobody has looked at yet."""
    name: str
    fleet_id: UUID | None
    fleet_name: str | None
    instance_num: int
    job_name: str | None
    hostname: str | None
    status: InstanceStatus
    unreachable: bool
    health_status: Literal["healthy", "warning", "failure"]
    termination_reason: InstanceTerminationReason | None
    termination_reason_message: str | None
    created: datetime
    finished_at: datetime | None
    region: str
    availability_zone: str | None
    price: float
    """$ per hour."""
    total_blocks: int
    busy_blocks: int
    gpu_driver: Plain | None
    x_backend: OwnBackend
    x_runtime: Runtime
    x_host: str | None
    """Of an SSH fleet: which of its hosts this is."""
    x_internal_ip: str | None
    x_runs: list[str]
    """Names of the runs that have a job here."""
    x_cordon: Cordon | None
    """Why it takes no new jobs."""
    x_unknown_tasks: int
    """Tasks that run there and that no job answers for, as after an old backup was restored."""
    x_message: str | None
    """What a person should know of it now, e.g. why it does not answer."""
    x_to_mend: bool
    """The host cannot be used as it is and is looked at again; `x_report` says what mends it."""
    x_report: list[Finding] | None


class FleetSpec(Answer):
    configuration: FleetConfiguration
    configuration_path: str | None
    profile: Profile
    autocreated: bool


class Fleet(Answer):
    id: UUID
    name: str
    project_name: str
    spec: FleetSpec
    created_at: datetime
    status: FleetStatus
    status_message: str | None
    instances: list[Instance]


class PlanReport(PlacementReport):
    """The funnel: how many machines and offers were looked at, and what dropped them."""

    busy: int
    best_reason: str | None
    hint: str | None


class HostPlan(Answer):
    host: str
    state: Literal["new", "again", "stays", "removed"]
    """`again`: it is not in order, and is looked at once more."""
    instance_num: int | None
    message: str | None
    runs: list[str]
    """What runs on a host that is to be removed."""


class FleetPlan(Answer):
    project_name: str
    user: str
    spec: FleetSpec
    effective_spec: FleetSpec
    current_resource: Fleet | None
    offers: list[PlanOffer]
    total_offers: int
    max_offer_price: float | None
    action: Literal["create", "update"]
    x_report: PlanReport
    x_notices: list[str]
    x_refusals: list[str]
    """Why an apply would be refused."""
    x_hosts: list[HostPlan]
    """Of an SSH fleet: what an apply would do with each host."""


class InstanceWhy(Answer):
    name: str
    status: InstanceStatus
    reason: InstanceTerminationReason | None
    message: str | None
    waiting_for: str | None
    deadline: float | None
    """Seconds since the epoch."""


class FleetWhy(Answer):
    name: str
    status: FleetStatus
    instances: list[InstanceWhy]
    offers: PlacementReport
    lines: list[str]
    """For people."""


class GetInstanceHealthChecksResponse(Answer):
    health_checks: list[Plain]
