"""Connections with explicit transactions: one writer and several readers on SQLite, a pool on PostgreSQL.

SQLAlchemy's defaults on SQLite open no transaction for SELECT, and a deferred transaction that turns to writing fails
with "database is locked" at once. So readers say BEGIN, the one writer says BEGIN IMMEDIATE.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.server.store.kept import Kept
from dstack.server.store.pool import SIZE, Pool
from dstack.server.store.slowness import Slowness
from dstack.server.store.trouble import Trouble
from dstack.server.store.unbroken import unbroken

READERS = 4
BREATH_S = 0.005
PATIENCE_S = 15.0  # how long another process (a backup, a shell) may hold a lock before a transaction fails


class Database:
    """`url` is a SQLAlchemy URL (`sqlite:///path`, `postgresql+asyncpg://...`).

    While it cannot be used, transactions end with DatabaseUnavailable, and `trouble` says why; `slowness` says what is
    waited for. `patience_s`: how long a lock of others is waited for; None: as long as it takes, on PostgreSQL.
    """

    def __init__(self, url: str, *, patience_s: float | None = PATIENCE_S):
        self.url = url
        self.trouble = Trouble()
        self.slowness = Slowness()
        self.kept = Kept(self.trouble)
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        told = self.trouble, self.slowness
        self._aside = asyncio.Semaphore((READERS if self.sqlite else SIZE) // 2)
        if self.sqlite:
            self._source: _SqliteFile | Pool = _SqliteFile(url, *told, patience_s or PATIENCE_S)
        else:
            self._source = Pool(url, *told, patience_s)

    @property
    def reading(self) -> Engine:
        """The engine under `read`, for those who want to listen to what it executes."""
        return self._source.reading

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view of the database."""
        with self.trouble.watch():
            async with self._source.read() as connection:
                yield connection

    @asynccontextmanager
    async def read_aside(self) -> AsyncIterator[AsyncConnection]:
        """As `read`, for those who come by thousands at once, as hosts do when a server starts: people and the engine
        do not stand in line behind them."""
        async with self._aside, self.read() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block and rolls back when it raises."""
        with self.trouble.watch():
            async with self._source.write() as connection:
                yield connection

    async def close(self) -> None:
        await self._source.close()


class _Breath:
    """Statements that are executed in place never wait: between them the others have their turn now and then.

    Between those that read, that is: whoever writes keeps all others from writing, and comes to its end.
    """

    def __init__(self) -> None:
        self._last = 0.0

    async def take(self) -> None:
        if time.perf_counter() - self._last > BREATH_S:
            await asyncio.sleep(0)
            self._last = time.perf_counter()


class _Inline:
    """What the store uses of an AsyncConnection, over a SQLite connection that is used in place.

    A statement takes SQLite some ten microseconds; handing each to a thread and back costs twenty times that.
    """

    def __init__(self, connection: Connection, breath: _Breath | None = None):
        self._connection = connection
        self._breath = breath
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        # Before: one that is cancelled here must not leave a cursor open, which would keep the file open, too.
        if self._breath is not None:
            await self._breath.take()
        return self._connection.execute(statement, parameters)

    async def run_sync(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return step(self._connection, *arguments)


class _SqliteFile:
    """Readers and the writer of one file. What may wait, for a lock or for the disk, happens in a thread."""

    def __init__(self, url: str, trouble: Trouble, slowness: Slowness, patience_s: float):
        self._path = make_url(url).database
        self._trouble = trouble
        self._slowness = slowness
        self._patience_s = self._waits_s = patience_s  # what is wanted, and what the writer's connection was told
        self._inode: tuple[int, int] | None = None
        self._write_turn = asyncio.Lock()  # waiting here, in order of arrival, instead of in SQLite's busy loop
        self._room = asyncio.Semaphore(READERS)
        self._breath = _Breath()
        self._writer = _sqlite(url, "BEGIN IMMEDIATE", 1, patience_s)
        self.reading = _sqlite(url, "BEGIN", READERS, patience_s)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with self._room:
            self._still_there()
            with self.reading.connect() as connection:
                connection.begin()
                yield cast(AsyncConnection, _Inline(connection, self._breath))

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._write_turn:
            self._still_there()
            with self._writer.connect() as connection:
                self._wait_at_most(connection, self._patience_s - (loop.time() - asked))
                with self._slowness.waiting("another program has kept its file locked"):
                    await self._in_thread(connection.begin)
                yield cast(AsyncConnection, _Inline(connection))
                with (
                    self._trouble.watch(committing=True),
                    self._slowness.waiting("a commit has not been written to the disk"),
                ):
                    await self._in_thread(connection.commit)

    def _wait_at_most(self, connection: Connection, left_s: float) -> None:
        """Of those that wait for one lock, the last in line must not wait as often as it has others before it."""
        wanted = self._patience_s if left_s > self._patience_s - 1.0 else max(0.1, left_s)
        if wanted != self._waits_s and (plain := connection.connection.dbapi_connection) is not None:
            plain.execute(f"PRAGMA busy_timeout = {int(wanted * 1000)}")  # pyright: ignore[reportAttributeAccessIssue]
            self._waits_s = wanted

    async def close(self) -> None:
        self._thread.shutdown()
        self.reading.dispose()
        self._writer.dispose()

    def _still_there(self) -> None:
        """SQLite goes on writing to a file that was moved or deleted, and what it writes would be lost."""
        try:
            found = os.stat(self._path or "")
        except OSError:
            inode = None
        else:
            inode = (found.st_dev, found.st_ino)
        if self._inode is None:
            self._inode = inode
        elif inode != self._inode:
            why = "was moved or deleted" if inode is None else "is another one now: restart the server to use that"
            raise self._trouble.happened(f"its file {self._path} {why}")

    async def _in_thread(self, step: Callable[[], object]) -> None:
        """Run one step to its end, cancelled or not: nobody else may touch the connection meanwhile."""
        await unbroken(asyncio.get_running_loop().run_in_executor(self._thread, step))


def _sqlite(url: str, begin: str, size: int, patience_s: float) -> Engine:
    # Values are hidden in errors, which are logged: a job's variables may be secrets.
    engine = create_engine(
        make_url(url).set(drivername="sqlite"),
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": patience_s, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves
        cursor = dbapi_connection.cursor()
        busy = f"busy_timeout = {int(patience_s * 1000)}"
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", busy):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
