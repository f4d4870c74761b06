"""Reading runs with all that their rendering needs, set by set: a page costs as many statements as one run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import JSON, ColumnElement, Select, and_, bindparam, cast, select, text, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import ResourceNotFound
from dstack.model.job import Job, JobStatus
from dstack.model.run import Run
from dstack.model.wire.requests import ListRuns
from dstack.server.auth.identity import Access, User
from dstack.server.parts import Parts
from dstack.server.services.rows import after, fetch, paged
from dstack.server.services.runs.waiting import waiting_for
from dstack.server.services.wire.jobs import Around, Silence
from dstack.server.services.wire.runs import RunView
from dstack.server.store.codec import decode
from dstack.server.store.tables import LIVE_RUN, TABLES, host_access, job_gauge, member, project, user

run_t, job_t, fleet_t, instance_t = TABLES["run"], TABLES["job"], TABLES["fleet"], TABLES["instance"]


@dataclass(frozen=True)
class RunKey:
    """By name (the one that is not deleted) or by id (deleted ones too)."""

    name: str | None = None
    id: str | None = None

    def __str__(self) -> str:
        return self.name or self.id or ""


async def find_run(connection: AsyncConnection, project_id: str, key: RunKey, *, lock: bool = False) -> Run | None:
    by = run_t.c.id == key.id if key.id is not None else and_(run_t.c.name == key.name, run_t.c.deleted.is_(False))
    found = await fetch(connection, Run, run_t.c.project_id == project_id, by, lock=lock)
    return found[0] if found else None


async def get_view(parts: Parts, access: Access, key: RunKey) -> RunView:
    """Raises ResourceNotFound."""
    async with parts.database.read() as connection:
        return await find_view(connection, parts, access, key)


def absent_run(name: object) -> ResourceNotFound:
    """The error that says so."""
    return ResourceNotFound(f"Run {name} not found", hint="`dstack ps -a` lists the runs of the project")


async def find_view(connection: AsyncConnection, parts: Parts, access: Access, key: RunKey) -> RunView:
    """As this transaction sees it. Raises ResourceNotFound."""
    run = await find_run(connection, access.project.id, key)
    if run is None:
        raise absent_run(key)
    return (await views(connection, parts, [run], {access.project.id: access.project.name}))[0]


def new_view(parts: Parts, access: Access, run: Run, jobs: Sequence[Job]) -> RunView:
    """A run that the caller made just now: all that is known of it."""
    now = parts.clock.now()
    return RunView(
        run=run,
        jobs=tuple(jobs),
        project_name=access.project.name,
        username=access.user.username,
        fleet_name=None,
        around=Around(parts.settings.images, now=now),
        now=now,
        waiting_for=waiting_for(run, jobs, now),
    )


async def list_views(parts: Parts, caller: User, query: ListRuns) -> list[RunView]:
    """A page of the runs that the caller may see, the newest first unless `ascending`.

    Raises ResourceNotFound when the user of the filter does not exist.
    """
    async with parts.database.read() as connection:
        if query.repo_id is not None and query.project_name is None:
            return []
        shape = _Shape(
            admin=caller.is_admin,
            of_project=query.project_name is not None,
            of_user=query.username is not None,
            only_active=query.only_active,
            ascending=query.ascending,
        )
        values = {"caller": caller.id, "project": query.project_name, "limit": query.limit}
        if query.username is not None:
            values["user"] = await _user_id(connection, query.username)
        statement = _page_of(shape)
        if query.prev_submitted_at is not None:
            columns = (run_t.c.submitted_at, run_t.c.id)
            statement = statement.where(*after(*columns, query.prev_submitted_at, query.prev_run_id, query.ascending))
        if query.repo_id is not None:
            statement = statement.where(_repo_id(connection.dialect.name) == query.repo_id)
        rows = (await connection.execute(statement, values)).mappings()
        return await _views(connection, parts, [_named(one) for one in rows])


def _repo_id(dialect: str) -> ColumnElement[str | None]:
    """Of the specification, which is stored as text."""
    spec = type_coerce(run_t.c.spec, JSON) if dialect == "sqlite" else cast(run_t.c.spec, JSON)
    return spec["repo_id"].as_string()


class _Shape(NamedTuple):
    """What a question for runs is made of, apart from its values."""

    admin: bool
    of_project: bool
    of_user: bool
    only_active: bool
    ascending: bool


class _Named(NamedTuple):
    """A run with the names of what it refers to."""

    run: Run
    project_name: str
    username: str | None
    fleet_name: str | None


_NAMED = (
    select(
        run_t,
        project.c.name.label("project_name"),
        user.c.username.label("user_name"),
        fleet_t.c.name.label("fleet_name"),
    )
    .join(project, project.c.id == run_t.c.project_id)
    .outerjoin(user, user.c.id == run_t.c.user_id)
    .outerjoin(fleet_t, fleet_t.c.id == run_t.c.fleet_id)
)


@lru_cache(maxsize=32)
def _page_of(shape: _Shape) -> Select:
    """Kept: to put a statement together takes longer than the database needs for it."""
    statement = _NAMED.order_by(*paged(run_t.c.submitted_at, run_t.c.id, shape.ascending)).limit(bindparam("limit"))
    if not shape.admin:
        own = select(member.c.project_id).where(member.c.user_id == bindparam("caller"))
        statement = statement.where(run_t.c.project_id.in_(own))
    if shape.of_project:
        statement = statement.where(project.c.name == bindparam("project"))
    if shape.of_user:
        statement = statement.where(run_t.c.user_id == bindparam("user"))
    if shape.only_active:
        statement = statement.where(text(LIVE_RUN))
    return statement


_JOBS = (
    select(job_t)
    .where(job_t.c.run_id.in_(bindparam("runs", expanding=True)))
    .order_by(job_t.c.replica_num, job_t.c.job_num, job_t.c.submission_num)
)


_SILENT = select(instance_t.c.id, instance_t.c.unreachable_since, instance_t.c.unreachable_message).where(
    instance_t.c.id.in_(bindparam("instances", expanding=True)), instance_t.c.unreachable_since.is_not(None)
)


def _named(row: Any) -> _Named:
    return _Named(decode(Run, row), row["project_name"], row["user_name"], row["fleet_name"])


async def views(
    connection: AsyncConnection, parts: Parts, runs: Sequence[Run], projects: dict[str, str]
) -> list[RunView]:
    """`projects`: names by id."""
    users = await _names(connection, user, {run.user_id for run in runs}, "username")
    fleets = await _names(connection, fleet_t, {run.fleet_id for run in runs if run.fleet_id}, "name")
    named = [
        _Named(run, projects[run.project_id], users.get(run.user_id), fleets.get(run.fleet_id or "")) for run in runs
    ]
    return await _views(connection, parts, named)


async def _views(connection: AsyncConnection, parts: Parts, found: Sequence[_Named]) -> list[RunView]:
    if not found:
        return []
    jobs: dict[str, list[Job]] = defaultdict(list)
    rows = await connection.execute(_JOBS, {"runs": [one.run.id for one in found]})
    for row in rows.mappings():
        job = decode(Job, row)
        jobs[job.run_id].append(job)
    pulling = [job.id for of_run in jobs.values() for job in of_run if job.status is JobStatus.PULLING]
    now = parts.clock.now()
    around = Around(
        parts.settings.images,
        await _names(connection, job_gauge, pulling, "pull", "job_id"),
        await _host_keys(connection, [job for of_run in jobs.values() for job in of_run]),
        await _silent_hosts(connection, [job for of_run in jobs.values() for job in of_run]),
        now,
    )
    return [
        RunView(
            run=one.run,
            jobs=tuple(jobs[one.run.id]),
            project_name=one.project_name,
            username=one.username,
            fleet_name=one.fleet_name,
            around=around,
            now=now,
            waiting_for=waiting_for(one.run, jobs[one.run.id], now),
        )
        for one in found
    ]


async def _host_keys(connection: AsyncConnection, jobs: Sequence[Job]) -> dict[str, str]:
    """Of the hosts of one's own that jobs run on now, by instance id."""
    places = [job.place for job in jobs if job.enterable and job.place and job.place.remote]
    ids = {place.remote.key: place.instance_id for place in places if place.remote}
    known = await _names(connection, host_access, set(ids), "host_key", "host")
    return {ids[host]: key for host, key in known.items()}


async def _silent_hosts(connection: AsyncConnection, jobs: Sequence[Job]) -> dict[str, Silence]:
    """The hosts of jobs that do not answer now, by instance id."""
    ids = sorted({job.place.instance_id for job in jobs if job.place and not job.terminal})
    if not ids:
        return {}
    found = await connection.execute(_SILENT, {"instances": ids})
    return {id_: Silence(since, message) for id_, since, message in found}


async def _user_id(connection: AsyncConnection, username: str) -> str:
    found = (await connection.execute(select(user.c.id).where(user.c.username == username))).scalar()
    if found is None:
        raise ResourceNotFound(f"User {username} not found")
    return found


async def _names(connection: AsyncConnection, table, ids, column: str, key: str = "id") -> dict[str, str]:
    if not ids:
        return {}
    found = await connection.execute(select(table.c[key], table.c[column]).where(table.c[key].in_(sorted(ids))))
    return {id_: name for id_, name in found if name is not None}
