"""Uploaded archives of local files: blobs by hash, and who uploaded which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import insert, select, update

from dstack.errors import ResourceNotFound
from dstack.ids import new_id
from dstack.server.auth.identity import User
from dstack.server.parts import Parts
from dstack.server.store.tables import archive

RENEW_S = 24 * 3600.0  # an upload that is asked for after this time counts as new


async def get_by_hash(parts: Parts, caller: User, hash_: str) -> dict[str, Any]:
    """The caller's own upload. Raises ResourceNotFound."""
    own = (archive.c.user_id == caller.id, archive.c.hash == hash_)
    columns = (archive.c.id, archive.c.hash, archive.c.created_at)
    async with parts.database.read() as connection:
        row = (await connection.execute(select(*columns).where(*own))).first()
    if row is None or not parts.blobs.has(row.hash):
        raise ResourceNotFound("Archive not found")
    now = parts.clock.now()
    if row.created_at < now - RENEW_S:
        # It is about to be used: retention, which deletes what nobody uses for long, must not be quicker.
        async with parts.database.write() as connection:
            await connection.execute(update(archive).where(archive.c.id == row.id).values(created_at=now))
    return {"id": row.id, "hash": row.hash}


async def upload(parts: Parts, caller: User, hash_: str, stream: AsyncIterator[bytes]) -> dict[str, Any]:
    """Keep the archive whose SHA-256 is `hash_`. Raises DstackError when it is too large or has another hash."""
    size = await parts.blobs.put(hash_, stream, parts.settings.code_upload_limit)
    async with parts.database.write() as connection:
        own = (archive.c.user_id == caller.id, archive.c.hash == hash_)
        id_ = (await connection.execute(select(archive.c.id).where(*own))).scalar()
        if id_ is None:
            id_ = new_id()
            row = {"id": id_, "user_id": caller.id, "hash": hash_, "size": size, "created_at": parts.clock.now()}
            await connection.execute(insert(archive).values(**row))
    return {"id": id_, "hash": hash_}
