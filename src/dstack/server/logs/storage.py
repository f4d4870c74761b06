"""Where logs and uploaded files lie: in the server's own folder, or in one that all servers of the database share.

The database remembers which: with a folder that is not the one which the others use, everybody would see half of the
logs.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError
from dstack.ids import new_id
from dstack.server.store.servers import Member, living
from dstack.server.store.tables import meta

log = logging.getLogger(__name__)
MARKER = ".dstack-storage"
_KEY = "storage"
_SHARED, _OWN = "shared:", "own:"


async def check(connection: AsyncConnection, shared: Path | None, me: Member, now: float) -> None:
    """Make sure that this server stores where the others look. Raises DstackError."""
    stored = await _stored(connection)
    if shared is None:
        wanted = await _own(connection, me, stored, now)
    else:
        wanted = await _shared(connection, shared, me, stored, now)
    if wanted != stored:
        await connection.execute(update(meta).where(meta.c.key == _KEY).values(value=wanted.encode()))


async def elsewhere(connection: AsyncConnection, shared: Path | None) -> str:
    """In words, why `shared` is not where the logs of this database lie; "" when nothing speaks against it."""
    stored = bytes((await connection.execute(select(meta.c.value).where(meta.c.key == _KEY))).scalar() or b"").decode()
    if not stored.startswith(_SHARED):
        return ""
    if shared is None:
        return "they lie in a folder that the servers of this database share: set DSTACK_SERVER_SHARED_DIR to it"
    if stored != f"{_SHARED}{await asyncio.to_thread(_read, shared)}":
        return f"{shared} is not the folder that the servers of this database share: is it mounted?"
    return ""


async def _own(connection: AsyncConnection, me: Member, stored: str, now: float) -> str:
    wanted = f"{_OWN}{me.id}"
    if stored in ("", wanted):
        return wanted
    if stored.startswith(_SHARED):
        raise DstackError(
            "The logs of this database lie in a folder that its servers share",
            hint="set DSTACK_SERVER_SHARED_DIR to it",
        )
    await _refuse_others(connection, me, now)
    log.warning("logs and uploaded files lie in the folder of another server; this one does not have them")
    return wanted


async def _shared(connection: AsyncConnection, folder: Path, me: Member, stored: str, now: float) -> str:
    marker = await asyncio.to_thread(_read, folder)
    if stored.startswith(_SHARED):
        if stored != f"{_SHARED}{marker}":
            id_ = stored.removeprefix(_SHARED)
            raise DstackError(
                f"{folder} is not the folder that the servers of this database share",
                hint=f"is it mounted? The right one has a file {MARKER} that says {id_}",
            )
        return stored
    if stored and stored != f"{_OWN}{me.id}":
        await _refuse_others(connection, me, now)
    if stored:
        log.warning(
            "logs and uploaded files of before stay where they are; move the folders logs and blobs to %s", folder
        )
    return f"{_SHARED}{marker or await asyncio.to_thread(_mark, folder)}"


async def _refuse_others(connection: AsyncConnection, me: Member, now: float) -> None:
    others = await living(connection, me.id, now)
    if others:
        raise DstackError(
            f"Another server works on this database and keeps the logs in its own folder: {', '.join(others)}",
            hint="several servers need a folder that all of them see: set DSTACK_SERVER_SHARED_DIR on each",
        )


async def _stored(connection: AsyncConnection) -> str:
    """What the database says, locked for this transaction; "" when it says nothing yet."""
    insert = sqlite_insert if connection.dialect.name == "sqlite" else pg_insert
    await connection.execute(insert(meta).values(key=_KEY, value=b"").on_conflict_do_nothing())
    found = await connection.execute(select(meta.c.value).where(meta.c.key == _KEY).with_for_update())
    return bytes(found.scalar() or b"").decode()


def _read(folder: Path) -> str:
    try:
        return (folder / MARKER).read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise DstackError(f"The shared folder {folder} cannot be read: {e.strerror}") from None


def _mark(folder: Path) -> str:
    id_ = new_id()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / MARKER).write_text(id_ + "\n")
    except OSError as e:
        raise DstackError(f"The shared folder {folder} cannot be written: {e.strerror}") from None
    return id_
