"""Who may enter a job: the key that came with its run, and those of the run's owner."""

from __future__ import annotations

import re

from sqlalchemy import bindparam, select

from dstack.model.job import Job
from dstack.model.run import Run
from dstack.server.store.codec import decode_field
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES, public_key, user

_KEY = re.compile(r"([a-z0-9@.-]{1,80}) +([A-Za-z0-9+/]+={0,2})(?: [^\r\n]*)?")

_SPEC = select(TABLES["run"].c.spec).where(TABLES["run"].c.id == bindparam("run"))
_OWN = select(user.c.ssh_public_key).where(user.c.id == bindparam("user"))
_MORE = select(public_key.c.key).where(public_key.c.user_id == bindparam("user"))


async def keys_of(database: Database, job: Job) -> list[str]:
    """`type base64` each, once; what is no key is left out: one bad line must not keep the others from entering."""
    async with database.read() as connection:
        spec = (await connection.execute(_SPEC, {"run": job.run_id})).scalar()
        own = (await connection.execute(_OWN, {"user": job.user_id})).scalar()
        more = (await connection.execute(_MORE, {"user": job.user_id})).scalars().all()
    sent = decode_field(Run, "spec", spec).ssh_key_pub if spec else None
    lines = [sent, own, *more]
    found = [_KEY.fullmatch(line.strip()) for line in lines if line]
    return list(dict.fromkeys(f"{match[1]} {match[2]}" for match in found if match))
