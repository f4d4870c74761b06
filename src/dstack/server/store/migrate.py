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
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from dstack.errors import DstackError
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
    """Take the database back to `revision`; `base` drops everything."""
    return await _migrate(url, revision, lambda alembic, config: alembic.downgrade(config, revision))


async def _migrate(url: str, revision: str, step: Callable[[Any, Any], None]) -> bool:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        if await _current(engine) == revision:
            return False
        async with _locked(engine, url):
            if await _current(engine) == revision:
                return False
            async with engine.begin() as connection:
                await connection.run_sync(_run, step)
        return True
    finally:
        await engine.dispose()


async def _current(engine: AsyncEngine) -> str | None:
    """The revision of the database, asked without Alembic, whose import takes longer than the question."""
    async with engine.connect() as connection:
        try:
            return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        except DBAPIError:
            return None  # no such table: a fresh database


def _run(connection: Connection, step: Callable[[Any, Any], None]) -> None:
    # Only a start that has something to do pays for this import.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    try:
        step(command, config)
    except CommandError as e:
        raise DstackError(
            f"The database cannot be migrated: {e}",
            hint="it was used by a newer release of dstack: start that one, or restore a backup",
        ) from None


@asynccontextmanager
async def _locked(engine: AsyncEngine, url: str) -> AsyncIterator[None]:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        async with engine.connect() as connection, _advisory(connection):
            yield
        return
    if not parsed.database or parsed.database == ":memory:":
        yield
        return
    with await asyncio.to_thread(Path(f"{parsed.database}.migrating").open, "w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield  # closing the file lets the lock go, also when this process dies


@asynccontextmanager
async def _advisory(connection: AsyncConnection) -> AsyncIterator[None]:
    async with asyncio.timeout(LOCK_WAIT_S):
        await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
    try:
        yield
    finally:
        await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
