"""Reading runs with all that their rendering needs, set by set: a page costs as many statements as one run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import ResourceNotFound
from dstack.model.job import Job, JobStatus
from dstack.model.run import Run
from dstack.model.wire.requests import ListRuns
from dstack.server.auth.identity import Access, User
from dstack.server.parts import Parts
from dstack.server.services.projects import visible_projects
from dstack.server.services.rows import after, fetch, live, paged
from dstack.server.services.runs.waiting import waiting_for
from dstack.server.services.wire.jobs import Around
from dstack.server.services.wire.runs import RunView
from dstack.server.store.tables import TABLES, job_gauge, user

run_t, job_t, fleet_t = TABLES["run"], TABLES["job"], TABLES["fleet"]


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
        run = await find_run(connection, access.project.id, key)
        if run is None:
            raise ResourceNotFound(f"Run {key} not found")
        return (await views(connection, parts, [run], {access.project.id: access.project.name}))[0]


async def list_views(parts: Parts, caller: User, query: ListRuns) -> list[RunView]:
    """A page of the runs that the caller may see, the newest first unless `ascending`.

    Raises ResourceNotFound when the user of the filter does not exist.
    """
    async with parts.database.read() as connection:
        projects = await visible_projects(connection, caller, query.project_name)
        if query.repo_id is not None and query.project_name is None:
            return []
        conditions: list[Any] = [run_t.c.project_id.in_(sorted(projects))]
        if query.username is not None:
            conditions.append(run_t.c.user_id == await _user_id(connection, query.username))
        if query.only_active:
            conditions += [live(Run), run_t.c.deleted.is_(False)]
        columns = (run_t.c.submitted_at, run_t.c.id)
        conditions += after(*columns, query.prev_submitted_at, query.prev_run_id, query.ascending)
        order = paged(*columns, query.ascending)
        runs = await fetch(connection, Run, *conditions, order=order, limit=query.limit)
        if query.repo_id is not None:
            runs = [run for run in runs if run.spec.repo_id == query.repo_id]
        return await views(connection, parts, runs, projects)


async def views(
    connection: AsyncConnection, parts: Parts, runs: Sequence[Run], projects: dict[str, str]
) -> list[RunView]:
    """`projects`: names by id."""
    if not runs:
        return []
    jobs: dict[str, list[Job]] = defaultdict(list)
    order = (job_t.c.replica_num, job_t.c.job_num, job_t.c.submission_num)
    for job in await fetch(connection, Job, job_t.c.run_id.in_([run.id for run in runs]), order=order):
        jobs[job.run_id].append(job)
    users = await _names(connection, user, {run.user_id for run in runs}, "username")
    fleets = await _names(connection, fleet_t, {run.fleet_id for run in runs if run.fleet_id}, "name")
    pulling = [job.id for of_run in jobs.values() for job in of_run if job.status is JobStatus.PULLING]
    around = Around(parts.settings.default_image, await _names(connection, job_gauge, pulling, "pull", "job_id"))
    now = parts.clock.now()
    return [
        RunView(
            run=run,
            jobs=tuple(jobs[run.id]),
            project_name=projects[run.project_id],
            username=users.get(run.user_id),
            fleet_name=fleets.get(run.fleet_id or ""),
            around=around,
            now=now,
            waiting_for=waiting_for(run, jobs[run.id], now),
        )
        for run in runs
    ]


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
