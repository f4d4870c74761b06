"""Rows by id: one, those that belong together, or all of them a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Table, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import ResourceNotFound
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.model.profile import merge
from dstack.model.row import Row
from dstack.model.run import Run
from dstack.server.store.codec import decode, decode_field
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
        # Each of n nodes asks for all of them.
        jobs = await database.kept.rows(connection, Job, *mine, order=(t.c.job_num,))
        ids = sorted({one.instance_id for one in jobs if one.instance_id})
        by_id = {one.id: one for one in await database.kept.rows(connection, Instance, i.c.id.in_(ids))}
    return [(one, by_id[one.instance_id]) for one in jobs if one.instance_id in by_id]


class Ordered(NamedTuple):
    """An instance with what its backend is told beside it: the project's name, and tags."""

    instance: Instance
    project: str
    tags: dict[str, str]


_INSTANCE, _FLEET, _JOB, _RUN = (TABLES[kind] for kind in ("instance", "fleet", "job", "run"))
_ORDERED = (
    select(_INSTANCE, _FLEET.c.spec.label("fleet_spec"), project.c.name.label("project_name"))
    .join(_FLEET, _FLEET.c.id == _INSTANCE.c.fleet_id)
    .outerjoin(project, project.c.id == _INSTANCE.c.project_id)
    .where(_INSTANCE.c.id == bindparam("id"))
)
_MADE_FOR = (
    select(_JOB.c.place, _RUN.c.spec)
    .join(_RUN, _RUN.c.id == _JOB.c.run_id)
    .where(_JOB.c.instance_id == bindparam("id"))
)


async def ordered(database: Database, instance_id: str) -> Ordered:
    """Its tags are those of its fleet, and of the run that it is made for, which win. Raises ResourceNotFound."""
    async with database.read() as connection:
        found = (await connection.execute(_ORDERED, {"id": instance_id})).mappings().first()
        if found is None:
            raise ResourceNotFound(f"instance {instance_id} does not exist")
        placed = (await connection.execute(_MADE_FOR, {"id": instance_id})).all()
    tags = dict(decode_field(Fleet, "spec", found["fleet_spec"]).configuration.tags or {})
    made_for = next(
        (spec for place, spec in placed if place and decode_field(Job, "place", place).created_instance), None
    )
    if made_for is not None:
        spec = decode_field(Run, "spec", made_for)
        tags |= merge(spec.configuration, spec.profile).tags or {}
    return Ordered(decode(Instance, found), found["project_name"] or "", tags)
