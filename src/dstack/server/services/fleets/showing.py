"""Instances of fleets as JSON, made once for each version of the rows that they are made of.

A fleet may have thousands, and is asked for again and again: what a question costs then is to ask for the versions.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import String, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.server.services.rows import live
from dstack.server.services.wire import fleets as wire
from dstack.server.services.wire.encoding import encoded
from dstack.server.store.kept import Kept
from dstack.server.store.tables import TABLES

MADE_AT_ONCE = 100  # then others have their turn
SAME_LENGTH = 10**9  # added to numbers, so that their texts have the order that they have
instance_t, job_t = TABLES["instance"], TABLES["job"]


async def shown_instances(
    connection: AsyncConnection, project_names: Mapping[str, str], kept: Kept
) -> dict[str, list[bytes]]:
    """The live instances by fleet, in the order of their numbers. `project_names`: by the ids of the fleets asked for.

    `kept` is of the database that `connection` reads.
    """
    result: dict[str, list[bytes]] = {}
    for fleet_id, keys in (await _keys(connection, list(project_names))).items():
        name = project_names[fleet_id]
        known = kept.texts(f"{fleet_id} {name}")
        texts = {key: known.get(key, b"") for key in keys}
        missing = [key for key, text in texts.items() if not text]
        for start in range(0, len(missing), MADE_AT_ONCE):
            texts |= await _made(connection, missing[start : start + MADE_AT_ONCE], name, kept)
            await asyncio.sleep(0)
        kept.keep_texts(f"{fleet_id} {name}", texts)
        result[fleet_id] = list(texts.values())
    return result


async def _keys(connection: AsyncConnection, fleet_ids: Sequence[str]) -> dict[str, list[str]]:
    """By fleet, what the text of each instance depends on: `number id version`, in the order of the numbers.

    The jobs on an instance need not be asked for: they take and give back its blocks by commits that change it, too
    (`control.invariants`), and what is shown of a job never changes. The database makes one text of all: ten thousand
    rows would cost several times what finding them does.
    """
    i = instance_t.c
    key = cast(i.num + SAME_LENGTH, String) + " " + i.id + " " + cast(i.version, String)
    statement = select(i.fleet_id, func.aggregate_strings(key, ";"))
    statement = statement.where(i.fleet_id.in_(fleet_ids), live(Instance)).group_by(i.fleet_id)
    found = (await connection.execute(statement)).all()
    return {fleet_id: sorted(keys.split(";")) for fleet_id, keys in found}


async def _made(connection: AsyncConnection, keys: Sequence[str], project_name: str, kept: Kept) -> dict[str, bytes]:
    """By key. The rows have the versions that were told: this is the same view of the database."""
    by_id = {key.split(" ")[1]: key for key in keys}
    rows = await kept.rows(connection, Instance, instance_t.c.id.in_(by_id))
    busy = [row.id for row in rows if row.busy_blocks]
    jobs: dict[str | None, list[Job]] = defaultdict(list)
    if busy:
        on_them = job_t.c.instance_id.in_(busy), live(Job)
        for job in await kept.rows(connection, Job, *on_them, order=(job_t.c.submitted_at, job_t.c.id)):
            jobs[job.instance_id].append(job)
    return {by_id[row.id]: encoded(wire.instance(row, project_name, jobs[row.id])) for row in rows}
