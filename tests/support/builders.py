"""Rows and snapshots with sensible values, so that a test names only what it is about."""

from __future__ import annotations

from typing import Any

from dstack.control.kernel import Decision, Pending, Received
from dstack.control.run.decide import queue_ref
from dstack.control.run.submission import new_jobs
from dstack.ids import derived_id
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.event import Event
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.instance import HostInfo, Instance, InstanceStatus, ProvisioningData
from dstack.model.job import Job, JobPlace, JobStatus
from dstack.model.observation import Observation
from dstack.model.offer import Gpu, Offer, Resources
from dstack.model.queue import Queue
from dstack.model.requirements import Requirements
from dstack.model.resources import ResourcesSpec
from dstack.model.row import Ref
from dstack.model.run import Run, RunSpec

PROJECT = "11111111-1111-4111-8111-111111111111"
USER = "22222222-2222-4222-8222-222222222222"
T0 = 1_000_000.0


def some_id(kind: str, name: Any = 0) -> str:
    return derived_id(PROJECT, kind, str(name))


def offer(
    name: str = "m1",
    *,
    price: float = 1.0,
    cpus: int = 8,
    memory_gb: float = 32,
    disk_gb: float = 200,
    gpu: str = "",
    gpus: int = 0,
    gpu_gb: float = 24,
    backend: str = "sim",
    region: str = "r1",
    spot: bool = False,
    **fields: Any,
) -> Offer:
    """`gpu` names the GPUs; `gpus` defaults to 1 where a name is given."""
    count = gpus or (1 if gpu else 0)
    return Offer(
        backend=backend,
        region=region,
        instance_type=name,
        price=price,
        resources=Resources(
            cpus=cpus,
            memory_mib=int(memory_gb * 1024),
            disk_mib=int(disk_gb * 1024),
            gpus=(Gpu(name=gpu or "L4", memory_mib=int(gpu_gb * 1024)),) * count,
            spot=spot,
        ),
        **fields,
    )


def fleet(name: str = "f", *, nodes: Any = "0..2", **fields: Any) -> Fleet:
    """Keyword arguments that are fields of the row go there, all others into the configuration."""
    row = {k: fields.pop(k) for k in list(fields) if k in Fleet.model_fields}
    configuration = FleetConfiguration.model_validate({"type": "fleet", "name": name, "nodes": nodes, **fields})
    values = {"id": some_id("fleet", name), "project_id": PROJECT, "created_at": T0, "seeded": True} | row
    return Fleet(name=name, spec=FleetSpec(configuration=configuration), **values)


def instance(num: int = 0, *, of: Fleet | None = None, **fields: Any) -> Instance:
    """A linked idle instance of the fleet, unless fields say otherwise."""
    f = of or fleet()
    values: dict[str, Any] = {
        "id": derived_id(f.id, "instance", num),
        "project_id": PROJECT,
        "created_at": T0,
        "fleet_id": f.id,
        "fleet_name": f.name,
        "name": f"{f.name}-{num}",
        "num": num,
        "offer": offer(),
        "status": InstanceStatus.IDLE,
        "idle_duration_s": 300.0,
    }
    values |= fields
    if values["status"] in (InstanceStatus.IDLE, InstanceStatus.BUSY):
        values = {"linked": True, "host": host(), "data": data(num), "started_at": T0} | values
    return Instance(**values)


def data(num: int = 0) -> ProvisioningData:
    return ProvisioningData(backend_id=f"i-{num}", hostname=f"10.0.0.{num}")


def host() -> HostInfo:
    return HostInfo(hostname="h", boot_id="b")


def task(**configuration: Any) -> TaskConfiguration:
    return TaskConfiguration.model_validate({"type": "task", "commands": ["true"], **configuration})


def run(name: str = "t1", **fields: Any) -> Run:
    """Keyword arguments that are fields of the row go there, all others into the configuration."""
    row = {k: fields.pop(k) for k in list(fields) if k in Run.model_fields and k not in ("spec", "name")}
    values = {
        "id": some_id("run", name),
        "project_id": PROJECT,
        "user_id": USER,
        "created_at": T0,
        "submitted_at": T0,
        "last_processed_at": T0,
    } | row
    return Run(name=name, spec=RunSpec(run_name=name, configuration=task(**fields)), **values)


def jobs_of(r: Run, **fields: Any) -> tuple[Job, ...]:
    """The jobs of the run's present attempt, each with these values of its row."""
    return tuple(j.replace(**fields) for j in new_jobs(r, r.attempt, T0))


def job(name: str = "t1", *, on: Instance | None = None, blocks: int = 1, **fields: Any) -> Job:
    """A job of one node; `on` places it. Row fields go to the row, all others into the configuration."""
    row = {k: fields.pop(k) for k in list(fields) if k in Job.model_fields and k not in ("spec", "priority")}
    made = jobs_of(run(name, **fields))[0]
    if on is not None:
        row = {"status": JobStatus.PROVISIONING, "instance_id": on.id, "place": place_on(on, blocks)} | row
    return made.replace(**row)


def place_on(on: Instance, blocks: int = 1, *, created: bool = False) -> JobPlace:
    return JobPlace(
        fleet_id=on.fleet_id,
        fleet_name=on.fleet_name,
        instance_id=on.id,
        instance_name=on.name,
        offer=on.offer,
        blocks=blocks,
        total_blocks=on.total_blocks,
        created_instance=created,
    )


def queue() -> Queue:
    return Queue(id=queue_ref(PROJECT).id, project_id=PROJECT, created_at=T0)


def requirements(resources: Any = None, **fields: Any) -> Requirements:
    spec = ResourcesSpec.model_validate(resources or {})
    return Requirements(resources=spec, **({"spot": False} | fields))


def inbox(*observations: Observation, at: float = T0) -> tuple[Received, ...]:
    return tuple(Received(i + 1, o, at) for i, o in enumerate(observations))


def pending(verb: str, attempts: int = 0) -> Pending:
    return Pending(verb, f"token-{verb}", attempts, T0)


def changed(decision: Decision, row: Any) -> dict[str, Any]:
    """The fields that the decision gives the row; empty when it leaves it alone."""
    ref = row if isinstance(row, Ref) else row.ref
    return next((dict(c.fields) for c in decision.changes if c.ref == ref), {})


def messages(decision: Decision) -> list[str]:
    return [e.message for e in decision.events]


def event_names(events: tuple[Event, ...]) -> list[str]:
    return [t.name for e in events for t in e.targets]


def verbs(decision: Decision) -> list[str]:
    return [a.verb for a in decision.acts]
