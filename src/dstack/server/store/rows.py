"""Rows by id: one, those that belong together, or all of them a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Table, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import ResourceNotFound
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.model.profile import merge
from dstack.model.row import Row
from dstack.model.run import Run
from dstack.server.store.codec import decode
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES, project

R = TypeVar("R", bound=Row)
PAGE = 500

_BY_ID = {kind: select(t).where(t.c.id == bindparam("id")) for kind, t in TABLES.items()}


async def row(database: Database, cls: type[R], id_: str) -> R:
    """The row as it is now. Raises ResourceNotFound."""
    async with database.read() as connection:
        return await fetched(connection, cls, id_)


async def fetched(connection: AsyncConnection, cls: type[R], id_: str) -> R:
    """The row as this transaction sees it. Raises ResourceNotFound."""
    found = (await connection.execute(_BY_ID[cls.kind], {"id": id_})).mappings().first()
    if found is None:
        raise ResourceNotFound(f"{cls.kind} {id_} does not exist")
    return decode(cls, found)


async def paged(
    connection: AsyncConnection, table: Table, columns: Sequence[Any], condition: Any
) -> AsyncIterator[Any]:
    """All rows that meet the condition, `id` among their columns: a page at a time, so that others get their turn."""
    last = ""
    while True:
        page = select(*columns).where(condition, table.c.id > last).order_by(table.c.id).limit(PAGE)
        rows = (await connection.execute(page)).all()
        for one in rows:
            yield one
        if len(rows) < PAGE:
            return
        last = rows[-1].id
        await asyncio.sleep(0)


async def placed(database: Database, job_id: str) -> tuple[Job, Instance | None, Fleet | None]:
    """A job with where it was placed, in one view of the database."""
    async with database.read() as connection:
        job = await fetched(connection, Job, job_id)
        if job.instance_id is None:
            return job, None, None
        instance = await fetched(connection, Instance, job.instance_id)
        return job, instance, await fetched(connection, Fleet, instance.fleet_id)


async def gang(database: Database, job: Job) -> list[tuple[Job, Instance]]:
    """All nodes of the job's submission that have a machine, with these, by their numbers."""
    t, i = TABLES["job"], TABLES["instance"]
    mine = (t.c.run_id == job.run_id, t.c.replica_num == job.replica_num, t.c.submission_num == job.submission_num)
    async with database.read() as connection:
        found = await connection.execute(select(t).where(*mine).order_by(t.c.job_num))
        jobs = [decode(Job, one) for one in found.mappings()]
        ids = sorted({one.instance_id for one in jobs if one.instance_id})
        machines = await connection.execute(select(i).where(i.c.id.in_(ids)))
        by_id = {one.id: one for one in (decode(Instance, row) for row in machines.mappings())}
    return [(one, by_id[one.instance_id]) for one in jobs if one.instance_id in by_id]


async def tags_of(database: Database, instance: Instance) -> dict[str, str]:
    """The tags of the instance's fleet, and of the run that it is made for, which win."""
    job_t = TABLES["job"]
    async with database.read() as connection:
        fleet = await fetched(connection, Fleet, instance.fleet_id)
        tags = dict(fleet.spec.configuration.tags or {})
        found = await connection.execute(select(job_t).where(job_t.c.instance_id == instance.id))
        jobs = [decode(Job, one) for one in found.mappings()]
        maker = next((job for job in jobs if job.place is not None and job.place.created_instance), None)
        if maker is not None:
            run = await fetched(connection, Run, maker.run_id)
            tags |= merge(run.spec.configuration, run.spec.profile).tags or {}
    return tags


async def project_name(database: Database, project_id: str) -> str:
    async with database.read() as connection:
        name = (await connection.execute(select(project.c.name).where(project.c.id == project_id))).scalar()
    return name or ""
