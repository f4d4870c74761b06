"""The plan of a run: what an apply would do, matched by the same rules as the engine's placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.run.submission import job_spec, next_trigger
from dstack.control.scheduling import Ask, Matching, Unit, Unplaceable, candidates, place
from dstack.control.scheduling import Pool as Room
from dstack.control.scheduling.each import in_a_line
from dstack.control.scheduling.nominal import gpu_key
from dstack.model.configurations import support
from dstack.model.configurations.hints import exact_gpu_memory
from dstack.model.configurations.images import image_missing
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import JobSpec
from dstack.model.offer import Offer
from dstack.model.requirements import Requirements
from dstack.model.run import Run, RunSpec
from dstack.model.wire.requests import GetRunPlan
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.rows import fetch, live
from dstack.server.services.runs.reading import RunKey, find_run, views
from dstack.server.services.runs.updating import not_in_place
from dstack.server.services.specs import effective_run_spec, open_env, read_run_spec
from dstack.server.services.wire.plans import JobPlan, RunPlan, Showing, run_plan
from dstack.server.services.wire.runs import run as render_run
from dstack.server.store.codec import decode_field
from dstack.server.store.kept import Kept
from dstack.server.store.tables import TABLES

# What `dstack offer` of released clients asks with: nothing is to run, prices are wanted.
OFFER_IMAGE = "scratch"
UNNAMED = "run"
NAMES_SHOWN = 8
_PROCESS = "process"
NO_WAY_BACK = (
    "dstack: jobs do not know how to reach this server; whoever runs it sets DSTACK_SERVER_JOBS_URL to its address"
)


@dataclass(frozen=True)
class Pool:
    fleets: tuple[Fleet, ...]
    instances: tuple[Instance, ...]
    offers: tuple[Offer, ...]

    @property
    def processes_only(self) -> bool:
        """There are machines, and none of them has a container engine."""
        return {one.runtime for one in (*self.offers, *(i.offer for i in self.instances))} == {_PROCESS}


async def pool_of(connection: AsyncConnection, project_id: str, offers: tuple[Offer, ...], kept: Kept) -> Pool:
    """What placement would look at now. The offers are fetched before: they come from outside, and may take long.

    `kept`: rows of the database that `connection` reads.
    """
    fleets = await fetch(connection, Fleet, TABLES["fleet"].c.project_id == project_id, live(Fleet))
    of_project = (TABLES["instance"].c.project_id == project_id, live(Instance))
    instances = await kept.rows(connection, Instance, *of_project)
    return Pool(tuple(fleets), tuple(instances), offers)


async def processes_only(connection: AsyncConnection, project_id: str, offers: tuple[Offer, ...]) -> bool:
    """What `Pool.processes_only` says; the machines, of which there may be thousands, are asked for one thing."""
    runtimes = {one.runtime for one in offers}
    if runtimes <= {_PROCESS}:
        t = TABLES["instance"].c
        found = await connection.execute(select(t.offer).distinct().where(t.project_id == project_id, live(Instance)))
        runtimes |= {decode_field(Instance, "offer", text).runtime for text in found.scalars()}
    return runtimes == {_PROCESS}


async def get_plan(parts: Parts, access: Access, request: GetRunPlan) -> dict[str, Any]:
    """The rendered plan. Raises ConfigurationError when the spec is not legal."""
    spec = with_key(read_run_spec(request.run_spec), access)
    offers = await parts.offers.all(access.project.id)
    async with parts.database.read() as connection:
        pool = await pool_of(connection, access.project.id, offers, parts.database.kept)
        existing = await _active(connection, access.project.id, spec.run_name)
        shown = None
        if existing is not None:
            view = (await views(connection, parts, [existing], {access.project.id: access.project.name}))[0]
            shown = render_run(view)
    offers_only, now = only_offers(spec, request.for_offers_only), parts.clock.now()
    plan = _plan(access, spec, pool, existing, shown, offers_only, now, parts.settings.jobs_url)
    showing = Showing(
        limit=request.max_offers,
        reverse=request.reverse_offers,
        full=request.full_offers,
        unallocated=request.unallocated_resources,
    )
    return run_plan(plan, showing, parts.settings.images)


def with_key(spec: RunSpec, access: Access) -> RunSpec:
    """Clients leave their public key out of the plan; the server knows it."""
    return spec if spec.ssh_key_pub else spec.model_copy(update={"ssh_key_pub": access.user.ssh_public_key})


def only_offers(spec: RunSpec, asked: bool) -> bool:
    return asked or spec.configuration.image == OFFER_IMAGE


def refusals(spec: RunSpec, processes: bool, jobs_url: str | None = None) -> tuple[str, ...]:
    """Why this run is not submitted, a line each; empty when it may be.

    `processes`: no machine has a container engine. `jobs_url`: where jobs reach the server.
    """
    c = spec.configuration
    found = list(support.unsupported(c))
    if spec.profile is not None:
        found += [line for line in support.unsupported(spec.profile) if line not in found]
    found += [f"env: {name} has no value" for name in open_env(c)]
    if processes:
        needs = job_spec(effective_run_spec(spec), UNNAMED).requirements.needs_containers
        found += [_needs_engine(name) for name in needs]
    else:
        found += image_missing(c)
        if c.dstack and jobs_url is None:
            found.append(NO_WAY_BACK)
    return tuple(found)


def notices(spec: RunSpec, pool: Pool) -> tuple[str, ...]:
    """What the plan tells beside the offers."""
    found = list(support.notices(spec.configuration))
    if pool.processes_only and spec.configuration.python:
        version = spec.configuration.python
        found.append(f"python: {version} comes from uv, or is the one that the machine has: jobs run as processes here")
    gpu = spec.configuration.resources.gpu
    if pool.processes_only and gpu is not None and gpu.count.min:
        found.append("resources.gpu: variables tell the job its GPUs; as a process it is not kept from the others")
    if spec.profile is not None:
        found += [line for line in support.notices(spec.profile) if line not in found]
    return tuple(found)


def absent(requirements: Requirements, pool: Pool) -> list[str]:
    """A line for each kind of name that nothing here has: a typing error, or a backend that is not set up."""
    fleets = sorted(fleet.name for fleet in pool.fleets)
    backends = sorted({one.backend for one in pool.offers} | {one.offer.backend for one in pool.instances})
    found = []
    missing = [name for name in requirements.fleets or () if "/" not in name and name not in fleets]
    if missing and fleets:
        found.append(f"fleets: there is no {_names(missing)} in the project, there is {_names(fleets)}")
    asked = requirements.backends
    if asked and backends and not {name.lower() for name in asked} & set(backends):
        found.append(f"backends: nothing here comes from {_names(sorted(asked))}, there is {_names(backends)}")
    machines = [*(one.resources for one in pool.offers), *(one.offer.resources for one in pool.instances)]
    gpus = sorted({gpu.name for machine in machines for gpu in machine.gpus})
    wanted = (requirements.resources.gpu.name or ()) if requirements.resources.gpu is not None else ()
    if wanted and gpus and not {gpu_key(name) for name in wanted} & {gpu_key(name) for name in gpus}:
        found.append(f"resources.gpu: nothing here has {_names(list(wanted))}, there is {_names(gpus)}")
    return found


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def matching(spec: JobSpec, pool: Pool, offers_only: bool, at: float) -> Matching:
    requirements = spec.requirements
    if not offers_only:
        return candidates(requirements, pool.fleets, pool.instances, pool.offers, at=at)
    asked = requirements.model_copy(update={"needs_containers": (), "privileged": False})
    if asked.fleets is not None:
        return candidates(asked, pool.fleets, pool.instances, pool.offers, at=at)
    return candidates(asked, None, (), pool.offers, at=at)


def _plan(
    access: Access,
    spec: RunSpec,
    pool: Pool,
    existing: Run | None,
    shown: dict[str, Any] | None,
    offers_only: bool,
    at: float,
    jobs_url: str | None,
) -> RunPlan:
    effective = effective_run_spec(spec)
    name = spec.run_name or UNNAMED
    specs = [job_spec(effective, name, job_num=n) for n in range(effective.configuration.node_count)]
    update = existing is not None and not not_in_place(existing.spec, effective)
    # Nodes of a gang ask for the same: each kind of requirements is matched once.
    matched: dict[str, Matching] = {}
    for one in specs:
        matched.setdefault(one.requirements.model_dump_json(), matching(one, pool, offers_only, at))
    return RunPlan(
        project_name=access.project.name,
        username=access.user.username,
        spec=spec,
        effective=effective,
        jobs=tuple(JobPlan(one, matched[one.requirements.model_dump_json()]) for one in specs),
        current=shown,
        action="update" if update else "create",
        notices=tuple(absent(specs[0].requirements, pool))
        if offers_only
        else (
            *notices(spec, pool),
            *absent(specs[0].requirements, pool),
            *_why_none_fits(specs, matched),
            *_more(specs, matched, pool),
        ),
        refusals=() if offers_only else refusals(spec, pool.processes_only, jobs_url),
        next_triggered_at=next_trigger(effective, at),
    )


def _why_none_fits(specs: list[JobSpec], matched: Mapping[str, Matching]) -> list[str]:
    found: list[str] = []
    for one in specs:
        result = matched[one.requirements.model_dump_json()]
        if not result.candidates:
            last_stage = next((drop.stage for drop in reversed(result.report.drops)), None)
            found += exact_gpu_memory(one.requirements.resources, last_stage)
    return list(dict.fromkeys(found))


def _more(specs: list[JobSpec], matched: Mapping[str, Matching], pool: Pool) -> list[str]:
    found = [c for m in matched.values() for c in m.candidates]
    if specs[0].utilization is not None and found and not any(c.resources.gpus for c in found):
        return ["utilization_policy: has no effect without GPUs, and none of the offers has one", *_gang(specs, pool)]
    return _gang(specs, pool)


def _gang(specs: list[JobSpec], pool: Pool) -> list[str]:
    """Several nodes start together or not at all: said where there is room for some of them only."""
    if len(specs) == 1 or not pool.fleets:
        return []
    unit = Unit("", tuple(Ask(one.name, one.requirements) for one in specs), together=True)
    (outcome,) = place(Room(pool.fleets, pool.instances, pool.offers), [unit])
    if isinstance(outcome, Unplaceable) and outcome.report.fitting:
        hosts = in_a_line(outcome.report)
        return [f"nodes: {outcome.best_reason}" + (f"; {hosts}" if hosts else "")]
    return []


async def _active(connection: AsyncConnection, project_id: str, name: str | None) -> Run | None:
    run = await find_run(connection, project_id, RunKey(name)) if name else None
    return None if run is None or run.terminal else run


def _needs_engine(field: str) -> str:
    return (
        f"{field}: needs a container engine, and the only machines here run jobs as plain processes "
        "(start Docker, or leave it out)"
    )
