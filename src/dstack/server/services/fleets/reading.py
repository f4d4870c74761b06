"""Reading fleets with their instances and what runs on them, set by set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import ResourceNotFound
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance, InstanceTerminationReason
from dstack.model.job import Job
from dstack.model.wire.requests import ListFleets
from dstack.server.auth.identity import Access, User
from dstack.server.parts import Parts
from dstack.server.services.fleets.showing import shown_instances
from dstack.server.services.projects import visible_projects
from dstack.server.services.rows import after, fetch, live, paged
from dstack.server.services.wire import fleets as wire
from dstack.server.services.wire.encoding import Encoded, encoded, encoded_list
from dstack.server.store.kept import Kept
from dstack.server.store.tables import TABLES

IDS_AT_ONCE = 2000  # databases have a limit
fleet_t, instance_t, job_t = TABLES["fleet"], TABLES["instance"], TABLES["job"]


async def list_of_project(parts: Parts, access: Access) -> list[Encoded]:
    """The fleets that are not terminated, oldest first, with their live instances."""
    async with parts.database.read() as connection:
        order = (fleet_t.c.created_at, fleet_t.c.id)
        found = await fetch(connection, Fleet, fleet_t.c.project_id == access.project.id, live(Fleet), order=order)
        return await render(connection, found, {access.project.id: access.project.name}, parts.database.kept)


async def list_fleets(parts: Parts, caller: User, query: ListFleets) -> list[Encoded]:
    """A page of the fleets that the caller may see, the newest first unless `ascending`."""
    async with parts.database.read() as connection:
        projects = await visible_projects(connection, caller, query.project_name)
        conditions: list[Any] = [fleet_t.c.project_id.in_(sorted(projects))]
        if query.only_active:
            conditions.append(live(Fleet))
        columns = (fleet_t.c.created_at, fleet_t.c.id)
        conditions += after(*columns, query.prev_created_at, query.prev_id, query.ascending)
        order = paged(*columns, query.ascending)
        found = await fetch(connection, Fleet, *conditions, order=order, limit=query.limit)
        return await render(connection, found, projects, parts.database.kept)


def absent_fleet(name: object) -> ResourceNotFound:
    """The error that says so."""
    return ResourceNotFound(f"Fleet {name} not found", hint="`dstack fleet` lists the fleets of the project")


async def get_fleet(parts: Parts, access: Access, name: str | None, id_: str | None) -> Encoded:
    """By name (one that is not terminated) or id. Raises ResourceNotFound."""
    async with parts.database.read() as connection:
        found = await find_fleet(connection, access.project.id, name, id_)
        if found is None:
            raise absent_fleet(name or id_)
        return (await render(connection, [found], {access.project.id: access.project.name}, parts.database.kept))[0]


async def find_fleet(
    connection: AsyncConnection, project_id: str, name: str | None, id_: str | None = None, *, lock: bool = False
) -> Fleet | None:
    by = fleet_t.c.id == id_ if id_ is not None else and_(fleet_t.c.name == name, live(Fleet))
    found = await fetch(connection, Fleet, fleet_t.c.project_id == project_id, by, lock=lock)
    return found[0] if found else None


async def render(
    connection: AsyncConnection, fleets: Sequence[Fleet], projects: dict[str, str], kept: Kept
) -> list[Encoded]:
    """`projects`: names by id; `kept`: rows of the database that `connection` reads."""
    if not fleets:
        return []
    names = {one.id: projects[one.project_id] for one in fleets}
    shown = await shown_instances(connection, names, kept)
    for one in await _failed_hosts(connection, fleets, kept):
        text = encoded(wire.instance(one, names[one.fleet_id], ()))
        shown.setdefault(one.fleet_id, []).append(text)
    return [wire.fleet(one, encoded_list(shown.get(one.id, ())), names[one.id]) for one in fleets]


async def _failed_hosts(connection: AsyncConnection, fleets: Sequence[Fleet], kept: Kept) -> list[Instance]:
    """The last instance of each host that its fleet still names, when it ended without anybody asking for it.

    Nothing follows it by itself: a person mends the host and applies the fleet again.
    """
    wanted = {(one.id, host.key) for one in fleets for host in one.spec.hosts}
    if not wanted:
        return []
    of_them = (instance_t.c.fleet_id.in_(sorted({fleet_id for fleet_id, _ in wanted})), live(Instance))
    living = await kept.rows(connection, Instance, *of_them)
    wanted -= {(one.fleet_id, one.remote.key) for one in living if one.remote is not None}
    if not wanted:
        return []
    of_fleets = instance_t.c.fleet_id.in_(sorted({fleet_id for fleet_id, _ in wanted}))
    ended = await fetch(connection, Instance, of_fleets, ~live(Instance), order=(instance_t.c.num,))
    last = {(one.fleet_id, one.remote.key): one for one in ended if one.remote is not None}
    asked = InstanceTerminationReason.TERMINATED_BY_USER
    return [one for key, one in last.items() if key in wanted and one.termination_reason is not asked]


async def jobs_on(connection: AsyncConnection, instances: Sequence[Instance], kept: Kept) -> dict[str, list[Job]]:
    """By instance id, the jobs on it that are not over."""
    busy = [one.id for one in instances if one.busy_blocks]
    found: dict[str, list[Job]] = defaultdict(list)
    for start in range(0, len(busy), IDS_AT_ONCE):
        here = job_t.c.instance_id.in_(busy[start : start + IDS_AT_ONCE])
        for job in await kept.rows(connection, Job, here, live(Job), order=(job_t.c.submitted_at,)):
            found[job.instance_id or ""].append(job)
    return found
