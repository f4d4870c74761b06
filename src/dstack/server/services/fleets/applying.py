"""Plan and apply of fleets: what would be offered, creation, and changes in place."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control import wording
from dstack.control.run.decide import queue_ref
from dstack.control.scheduling import Matching, fleet_candidates
from dstack.errors import AccessDenied, DstackError
from dstack.ids import new_id
from dstack.model.configurations import support
from dstack.model.configurations.hints import exact_gpu_memory
from dstack.model.event import Event
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.row import Ref
from dstack.model.wire.requests import ApplyFleetPlan, GetFleetPlan
from dstack.server.auth.identity import Access
from dstack.server.auth.rules import manages_ssh_fleets
from dstack.server.parts import Parts
from dstack.server.services.fleets import hosting, keys
from dstack.server.services.fleets.hosting import host_plans
from dstack.server.services.fleets.reading import find_fleet, get_fleet, render
from dstack.server.services.projects import hold_project
from dstack.server.services.rows import announce, change_rows, insert_rows, live
from dstack.server.services.runs.updating import CHANGED
from dstack.server.services.specs import effective_fleet_spec, open_env, read_fleet_spec
from dstack.server.services.wire.encoding import Encoded
from dstack.server.services.wire.plans import FleetPlan, fleet_plan
from dstack.server.services.wire.specs import fleet_spec as render_spec
from dstack.server.store.commit import record_events, wake
from dstack.server.store.tables import TABLES
from dstack.values.names import random_name

MAX_OFFERS = 50
# The rest decides what the instances are: those that exist could not follow.
_FIXED = ("placement", "blocks")


async def get_plan(parts: Parts, access: Access, request: GetFleetPlan) -> Encoded:
    """The rendered plan. Raises ConfigurationError when the spec is not legal."""
    clear = keys.opened(read_fleet_spec(request.spec), parts.cipher, access)
    spec = keys.sealed(clear, parts.cipher, access)
    effective = effective_fleet_spec(keys.public_only(spec))
    offers = await parts.offers.all(access.project.id)
    name = spec.configuration.name
    async with parts.database.read() as connection:
        existing = await find_fleet(connection, access.project.id, name) if name else None
        current = None
        if existing is not None:
            names = {access.project.id: access.project.name}
            current = (await render(connection, [existing], names, parts.database.kept))[0]
        hosts = await host_plans(connection, effective, existing)
        unfit = await hosting.refused(connection, access.project.id, clear, existing)
    update = existing is not None and not not_in_place(existing.spec, effective)
    # Hosts are what they are: no offer is asked for them.
    matching = fleet_candidates(effective.configuration, () if effective.hosts else offers, at=parts.clock.now())
    plan = FleetPlan(
        project_name=access.project.name,
        username=access.user.username,
        spec=spec,
        effective=effective,
        matching=matching,
        current=current,
        action="update" if update else "create",
        notices=(*support.notices(effective.configuration), *_why_none_fits(effective, matching)),
        refusals=(*refusals(effective), *unfit),
        hosts=tuple(one.wire() for one in hosts),
    )
    return fleet_plan(plan, max_offers=MAX_OFFERS)


def _why_none_fits(spec: FleetSpec, matching: Matching) -> list[str]:
    if matching.candidates or spec.hosts:
        return []
    last_stage = next((drop.stage for drop in reversed(matching.report.drops)), None)
    return exact_gpu_memory(spec.configuration.resources, last_stage)


async def apply_plan(parts: Parts, access: Access, request: ApplyFleetPlan) -> Encoded:
    """The rendered fleet. Raises DstackError when the plan refuses it, or no longer holds; AccessDenied."""
    read = effective_fleet_spec(read_fleet_spec(request.plan.spec))
    # Asked of what was read: a key has more than one spelling.
    if read.configuration.ssh_config is not None and not manages_ssh_fleets(parts.settings.rules, access):
        raise AccessDenied("Access denied", hint="an admin of the project makes SSH fleets on this server")
    clear = keys.opened(read, parts.cipher, access)
    spec = keys.public_only(clear)
    if refused := refusals(spec):
        raise DstackError("\n".join(refused))
    now, name = parts.clock.now(), spec.configuration.name
    async with parts.database.write() as connection:
        existing = await find_fleet(connection, access.project.id, name, lock=True) if name else None
        if existing is None:
            if request.plan.current_resource is not None and not request.force:
                raise DstackError(CHANGED)
            await _check_hosts(connection, access, clear, None, request.force)
            fleet, touched = await _create(connection, access, spec, now)
        else:
            _check_current(existing, request.plan.current_resource, request.force)
            _check_in_place(existing, spec)
            await _check_hosts(connection, access, clear, existing, request.force)
            fleet, touched = existing, await _update(connection, access, existing, spec, now)
        await hosting.keep_keys(connection, parts.cipher, fleet.replace(spec=spec), clear)
    announce(parts, touched)
    return await get_fleet(parts, access, None, fleet.id)


def refusals(spec: FleetSpec) -> tuple[str, ...]:
    """Why this fleet is not made, a line each."""
    found = list(support.unsupported(spec.configuration))
    if spec.profile is not None:
        found += [line for line in support.unsupported(spec.profile) if line not in found]
    return (*found, *(f"env: {name} has no value" for name in open_env(spec.configuration)))


def changed_fields(old: FleetSpec, new: FleetSpec) -> list[str]:
    """Names of what differs between two effective configurations."""
    before, after = render_spec(old)["configuration"], render_spec(new)["configuration"]
    return [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]


def not_in_place(old: FleetSpec, new: FleetSpec) -> list[str]:
    """What differs and needs the fleet to be made anew."""
    kind_differs = (old.configuration.nodes is None) != (new.configuration.nodes is None)
    of_kind = ("nodes", "ssh_config") if kind_differs else ()
    fixed = [name for name in changed_fields(old, new) if name in _FIXED or name in of_kind]
    return fixed + [f"blocks of the host {host}" for host in hosting.changed_blocks(old, new)]


async def _check_hosts(
    connection: AsyncConnection, access: Access, clear: FleetSpec, existing: Fleet | None, force: bool
) -> None:
    """Raises DstackError when hosts of an SSH fleet cannot be taken, or not be let go."""
    if refused := await hosting.refused(connection, access.project.id, clear, existing):
        raise DstackError("\n".join(refused))
    if not force:
        hosting.check_removal(await host_plans(connection, keys.public_only(clear), existing))


async def _create(connection: AsyncConnection, access: Access, spec: FleetSpec, now: float) -> tuple[Fleet, set[Ref]]:
    await hold_project(connection, access)
    name = spec.configuration.name or await _free_name(connection, access.project.id)
    configuration = spec.configuration.model_copy(update={"name": name})
    fleet = Fleet(
        id=new_id(),
        project_id=access.project.id,
        created_at=now,
        name=name,
        spec=spec.model_copy(update={"configuration": configuration}),
    )
    await insert_rows(connection, [fleet], now)
    message = f"Fleet created. Status: {fleet.status.upper()}"
    event = Event(message, (wording.target(fleet),), access.user.id, access.project.id)
    await record_events(connection, [event], now)
    # Jobs that wait for a fleet may fit now.
    queue = queue_ref(access.project.id)
    await wake(connection, [queue], now)
    return fleet, {fleet.ref, queue}


def _check_in_place(existing: Fleet, spec: FleetSpec) -> None:
    fixed = not_in_place(existing.spec, spec)
    if fixed:
        raise DstackError(
            f"Failed to update the fleet {existing.name}: {', '.join(fixed)} cannot be changed in place",
            hint=f"delete it first: `dstack fleet delete {existing.name}`",
        )


async def _update(
    connection: AsyncConnection, access: Access, existing: Fleet, spec: FleetSpec, now: float
) -> set[Ref]:
    changed = changed_fields(existing.spec, spec)
    plans = await host_plans(connection, spec, existing)
    if not changed and all(plan.state == hosting.STAYS for plan in plans):
        return set()
    # A new target is made once, like that of a new fleet; earlier failures say nothing about the new spec.
    again = {
        "create_failures": 0,
        "next_create_at": None,
        "last_error": None,
        "seeded": existing.seeded and "nodes" not in changed and not plans,
    }
    await change_rows(connection, Fleet, [existing.id], spec=spec, **again)
    await hosting.look_again(connection, plans, now)
    message = f"Fleet updated. Changed fields: {', '.join(changed)}" if changed else "Fleet applied again"
    event = Event(message, (wording.target(existing),), access.user.id, access.project.id)
    await record_events(connection, [event], now)
    touched = {existing.ref, queue_ref(access.project.id)}
    await wake(connection, touched, now)
    return touched


def _check_current(existing: Fleet, seen: Mapping[str, Any] | None, force: bool) -> None:
    """Raises DstackError when the fleet is not the one that the plan was made for."""
    if force:
        return
    if seen is None or str(seen.get("id")) != existing.id:
        raise DstackError(CHANGED)
    try:
        planned_for = effective_fleet_spec(read_fleet_spec(seen.get("spec") or {}))
    except DstackError:
        raise DstackError(CHANGED) from None
    if changed_fields(planned_for, existing.spec):
        raise DstackError(CHANGED)


async def _free_name(connection: AsyncConnection, project_id: str) -> str:
    fleet = TABLES["fleet"]
    taken = await connection.execute(select(fleet.c.name).where(fleet.c.project_id == project_id, live(Fleet)))
    return random_name(secrets.randbelow, set(taken.scalars()))
