"""Who may enter a job: the key that came with its run, and those of the run's owner."""

from __future__ import annotations

import re

from sqlalchemy import select

from dstack.model.job import Job
from dstack.model.run import Run
from dstack.server.store.database import Database
from dstack.server.store.rows import fetched
from dstack.server.store.tables import public_key, user

_KEY = re.compile(r"([a-z0-9@.-]{1,80}) +([A-Za-z0-9+/]+={0,2})(?: [^\r\n]*)?")


async def keys_of(database: Database, job: Job) -> list[str]:
    """`type base64` each, once; what is no key is left out: one bad line must not keep the others from entering."""
    async with database.read() as connection:
        run = await fetched(connection, Run, job.run_id)
        own = (await connection.execute(select(user.c.ssh_public_key).where(user.c.id == job.user_id))).scalar()
        more = await connection.execute(select(public_key.c.key).where(public_key.c.user_id == job.user_id))
        lines = [run.spec.ssh_key_pub, own, *(row.key for row in more)]
    found = [_KEY.fullmatch(line.strip()) for line in lines if line]
    return list(dict.fromkeys(f"{match[1]} {match[2]}" for match in found if match))
