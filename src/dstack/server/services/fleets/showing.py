"""Instances of fleets as JSON, made once for each version of the rows that they are made of.

A fleet may have thousands, and is asked for again and again: what a question costs then is to ask for the versions.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.server.services.rows import live
from dstack.server.services.wire import fleets as wire
from dstack.server.services.wire.encoding import encoded
from dstack.server.store.kept import Kept
from dstack.server.store.tables import TABLES

AT_ONCE = 500  # versions that are looked at, then others have their turn
MADE_AT_ONCE = 100
instance_t, job_t = TABLES["instance"], TABLES["job"]


class _Shown(NamedTuple):
    """An instance with the jobs on it that are not over: ids and versions."""

    id: str
    version: int
    jobs: tuple[tuple[str, int], ...]


async def shown_instances(
    connection: AsyncConnection, project_names: Mapping[str, str], kept: Kept
) -> dict[str, list[bytes]]:
    """The live instances by fleet, in the order of their numbers. `project_names`: by the ids of the fleets asked for.

    `kept` is of the database that `connection` reads.
    """
    result: dict[str, list[bytes]] = {}
    for fleet_id, instances in (await _versions(connection, list(project_names))).items():
        name = project_names[fleet_id]
        result[fleet_id] = await _texts(connection, instances, name, kept)
    return result


async def _versions(connection: AsyncConnection, fleet_ids: Sequence[str]) -> dict[str, list[_Shown]]:
    """Not sorted by the database, which would do all of it in one go."""
    i, j = instance_t.c, job_t.c
    of_fleets = i.fleet_id.in_(fleet_ids), live(Instance)
    on_it = and_(j.instance_id == i.id, i.busy_blocks > 0, live(Job))
    statement = select(i.fleet_id, i.num, j.submitted_at, i.id, i.version, j.id, j.version)
    statement = statement.join_from(instance_t, job_t, on_it, isouter=True).where(*of_fleets)
    found: list[tuple[Any, ...]] = []
    cursor = await connection.execute(statement)
    try:
        while some := cursor.fetchmany(AT_ONCE):
            found += map(tuple, some)
            await asyncio.sleep(0)
    finally:
        cursor.close()  # whoever is cancelled leaves none open, which would keep the file open, too
    found.sort(key=_place)
    return await _grouped(found)


def _place(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """By number, then the rows of one instance together, its jobs by age: one without a job has None for it."""
    fleet_id, num, submitted_at, id_, _version, job_id, _job_version = row
    return fleet_id, num, id_, submitted_at or 0.0, job_id or ""


async def _grouped(rows: Sequence[tuple[Any, ...]]) -> dict[str, list[_Shown]]:
    """`rows`: an instance with one of its jobs, or with None."""
    fleets: dict[str, list[_Shown]] = defaultdict(list)
    for n, (fleet_id, _num, _at, id_, version, job_id, job_version) in enumerate(rows, 1):
        here = fleets[fleet_id]
        jobs = () if job_id is None else ((job_id, job_version),)
        if here and here[-1].id == id_:
            here[-1] = here[-1]._replace(jobs=here[-1].jobs + jobs)
        else:
            here.append(_Shown(id_, version, jobs))
        if n % AT_ONCE == 0:
            await asyncio.sleep(0)
    return fleets


async def _texts(
    connection: AsyncConnection, instances: Sequence[_Shown], project_name: str, kept: Kept
) -> list[bytes]:
    result: list[bytes] = []
    for start in range(0, len(instances), AT_ONCE):
        some = instances[start : start + AT_ONCE]
        texts = {one.id: kept.text(one.id, (project_name, one)) for one in some}
        missing = [one for one in some if texts[one.id] is None]
        for first in range(0, len(missing), MADE_AT_ONCE):
            texts |= await _made(connection, missing[first : first + MADE_AT_ONCE], project_name, kept)
            await asyncio.sleep(0)
        result += [text for text in texts.values() if text is not None]
        await asyncio.sleep(0)
    return result


async def _made(
    connection: AsyncConnection, instances: Sequence[_Shown], project_name: str, kept: Kept
) -> dict[str, bytes]:
    """By id. The rows have the versions that were told: this is the same view of the database."""
    job_ids = [id_ for one in instances for id_, _ in one.jobs]
    rows = await kept.rows(connection, Instance, instance_t.c.id.in_([one.id for one in instances]))
    jobs = {job.id: job for job in await kept.rows(connection, Job, job_t.c.id.in_(job_ids))} if job_ids else {}
    by_id = {row.id: row for row in rows}
    made = {}
    for one in instances:
        shown = wire.instance(by_id[one.id], project_name, [jobs[id_] for id_, _ in one.jobs])
        made[one.id] = text = encoded(shown)
        kept.keep_text(one.id, (project_name, one), text)
    return made
