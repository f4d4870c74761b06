"""Bringing a database to the schema of this release, under a lock, and back."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from dstack.errors import DstackError
from dstack.server.store.database import Database
from dstack.server.store.migrations import HEAD

_SCRIPTS = Path(__file__).with_name("migrations")
_LOCK_KEY = 0x6473_7461_636B  # "dstack": one advisory lock on PostgreSQL
LOCK_WAIT_S = 60.0


async def upgrade(url: str) -> bool:
    """Bring the database at the SQLAlchemy URL up to date; False when it was already.

    Several servers may start at once: one migrates, the others wait for it. Raises DstackError when the database is
    newer than this release.
    """
    return await _migrate(url, HEAD, lambda alembic, config: alembic.upgrade(config, HEAD))


async def downgrade(url: str, revision: str = "base") -> bool:
    """Take the database back to `revision`; `base` drops everything. False when it is there already."""
    return await _migrate(url, revision, lambda alembic, config: alembic.downgrade(config, revision))


async def _migrate(url: str, revision: str, step: Callable[[Any, Any], None]) -> bool:
    database = Database(url)
    try:
        if await _current(database) == revision:
            return False
        async with _locked(database):
            if await _current(database) == revision:
                return False
            # All or nothing, on SQLite too: the writer says BEGIN itself.
            async with database.write() as connection:
                await connection.run_sync(_run, step)
        return True
    finally:
        await database.close()


async def _current(database: Database) -> str:
    """The revision of the database, asked without Alembic, whose import takes longer than the question."""
    async with database.read() as connection:
        try:
            return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar() or "base"
        except DBAPIError:
            return "base"  # no such table: a fresh database


def _run(connection: Connection, step: Callable[[Any, Any], None]) -> None:
    # Only a start that has something to do pays for this import.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        step(command, config)
    except CommandError as e:
        raise DstackError(
            f"The database cannot be migrated: {e}",
            hint="it was used by a newer release of dstack: start that one, or restore a backup",
        ) from None


@asynccontextmanager
async def _locked(database: Database) -> AsyncIterator[None]:
    """Raises TimeoutError when another server migrates for longer than `LOCK_WAIT_S`."""
    if not database.sqlite:
        async with _advisory(database):
            yield
        return
    path = make_url(database.url).database
    with await asyncio.to_thread(Path(f"{path}.migrating").open, "w") as file:
        await _flock(file)
        yield  # closing the file lets the lock go, also when this process dies


async def _flock(file: Any) -> None:
    async with asyncio.timeout(LOCK_WAIT_S):
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A lock that is waited for in a thread could not be given up at the deadline.
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _advisory(database: Database) -> AsyncIterator[None]:
    async with database.write() as connection:
        async with asyncio.timeout(LOCK_WAIT_S):
            # Ends with the transaction, also when this process dies.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        yield
