"""Bringing a database to the schema of this release, under a lock, and back.

A newer schema says which is the oldest revision whose servers still work on it: those go on, and may be started again,
while newer ones work beside them.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from dstack.errors import DstackError
from dstack.server.store.database import Database
from dstack.server.store.migrations import HEAD, MIN_COMPATIBLE
from dstack.server.store.trouble import DatabaseUnavailable, words

log = logging.getLogger(__name__)
_SCRIPTS = Path(__file__).with_name("migrations")
_LOCK_KEY = 0x6473_7461_636B  # "dstack": one advisory lock on PostgreSQL
_START_KEY = _LOCK_KEY + 1
LOCK_WAIT_S = 60.0
_QUESTION = "SELECT version_num FROM alembic_version"
COMPATIBLE = "min_compatible"  # the key in the table `meta`


async def upgrade(url: str) -> bool:
    """Bring the database at the SQLAlchemy URL up to date; False when it was already.

    Several servers may start at once: one migrates, the others wait for it. Raises DstackError when the database is
    newer than this release and does not say that it can work with it, or when SQLite's file cannot be had.
    """
    if (file := _sqlite_file(url)) is not None:
        await asyncio.to_thread(_make_private, file)
    if (newer := await _compatible(url)) is not None:
        log.info("the database is of a newer release (%s); this one (%s) works with it", newer, HEAD)
        return False

    def step(alembic: Any, config: Any) -> None:
        alembic.upgrade(config, HEAD)
        connection: Connection = config.attributes["connection"]
        connection.execute(text("DELETE FROM meta WHERE key = :key"), {"key": COMPATIBLE})
        values = {"key": COMPATIBLE, "value": MIN_COMPATIBLE.encode()}
        connection.execute(text("INSERT INTO meta (key, value) VALUES (:key, :value)"), values)

    return await _migrate(url, HEAD, step)


@asynccontextmanager
async def one_at_a_time(url: str) -> AsyncIterator[None]:
    """Of several servers that start at once, one makes what must be there; the others find it.

    Raises TimeoutError. A SQLite file has one server anyway.
    """
    if _sqlite_file(url) is not None:
        yield
        return
    async with _advisory(url, _START_KEY):
        yield


async def downgrade(url: str, revision: str = "base") -> bool:
    """Take the database back to `revision`; `base` drops everything. False when it is there already."""
    return await _migrate(url, revision, lambda alembic, config: alembic.downgrade(config, revision))


async def _compatible(url: str) -> str | None:
    """The revision of a database that is newer than this release, and says that this one can work with it."""
    revision = await _current(url)
    if not revision.isdigit() or revision <= HEAD:
        return None
    database = Database(url)
    try:
        async with database.read() as connection:
            question = text("SELECT value FROM meta WHERE key = :key")
            oldest = (await connection.execute(question, {"key": COMPATIBLE})).scalar()
    finally:
        await database.close()
    return revision if oldest is not None and bytes(oldest).decode() <= HEAD else None


async def _migrate(url: str, revision: str, step: Callable[[Any, Any], None]) -> bool:
    if await _current(url) == revision:
        return False
    async with _locked(url):
        if await _current(url) == revision:
            return False
        database = Database(url, patience_s=None)  # of a large table, a step takes as long as it takes
        try:
            # All or nothing, on SQLite too: the writer says BEGIN itself.
            async with database.write() as connection:
                await connection.run_sync(_run, step)
        finally:
            await database.close()
    return True


async def _current(url: str) -> str:
    """The revision of the database, asked without Alembic, whose import takes longer than the question."""
    if (file := _sqlite_file(url)) is not None:
        return await asyncio.to_thread(_current_of_file, file)
    database = Database(url)
    try:
        async with database.read() as connection:
            known = text("SELECT to_regclass('alembic_version') IS NOT NULL")
            if not (await connection.execute(known)).scalar():
                return "base"
            return (await connection.execute(text(_QUESTION))).scalar() or "base"
    finally:
        await database.close()


def _current_of_file(file: Path) -> str:
    """Plainly, without the settings of our connections: to make them needs a database that nobody else opens now."""
    if not file.exists():
        return "base"
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=15)
    try:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute(_QUESTION).fetchone() if known else None
        return row[0] if row else "base"
    except sqlite3.Error as e:
        raise DatabaseUnavailable(f"The database cannot be used: {words(e) or e}") from e
    finally:
        connection.close()


def _make_private(file: Path) -> None:
    """The file, for its owner alone, whatever the folder: it holds what jobs are given, secrets among it."""
    journal = file.with_name(f"{file.name}-wal")
    if journal.exists() and journal.stat().st_size:
        if not file.exists():
            raise DstackError(
                f"The database {file} is not there, but its journal {journal} is",
                hint="what was written last is in it: put the file back beside it, or delete the journal to begin anew",
            )
        _check_together(file, journal)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        file.chmod(0o600)
    except OSError as e:
        raise DstackError(f"The database {file} cannot be opened: {e.strerror}") from None


def _check_together(file: Path, journal: Path) -> None:
    """A backup beside the journal of a killed server would be read as a mixture of both. Changes neither."""
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=15)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as e:
        if isinstance(e, sqlite3.OperationalError):  # locked, or no room: the start itself tells that
            return
        found = words(e) or str(e)
    finally:
        connection.close()
    if found != "ok":
        raise DstackError(
            f"The database {file} and its journal {journal.name} do not fit together, or the file is damaged",
            hint=f"when {file.name} was restored from a backup, delete {journal.name} and {file.name}-shm beside it; "
            "else restore a backup, or `sqlite3 FILE .recover`",
        )


def _sqlite_file(url: str) -> Path | None:
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


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
async def _locked(url: str) -> AsyncIterator[None]:
    """Raises TimeoutError when another server migrates for longer than `LOCK_WAIT_S`."""
    path = _sqlite_file(url)
    if path is None:
        async with _advisory(url, _LOCK_KEY):
            yield
        return
    with await asyncio.to_thread(path.with_name(f"{path.name}.migrating").open, "w") as file:
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
async def _advisory(url: str, key: int) -> AsyncIterator[None]:
    database = Database(url, patience_s=None)
    try:
        # Not one that writes: those may not be idle for as long as this one is.
        async with database.read() as connection:
            async with asyncio.timeout(LOCK_WAIT_S):
                # Ends with the transaction, also when this process dies.
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield
    finally:
        await database.close()
