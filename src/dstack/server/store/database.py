"""Connections with explicit transactions: one writer and several readers on SQLite, a pool on PostgreSQL.

SQLAlchemy's defaults on SQLite open no transaction for SELECT, and a deferred transaction that turns to writing fails
with "database is locked" at once. So readers say BEGIN, the one writer says BEGIN IMMEDIATE.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

READERS = 4


class Database:
    """`url` is a SQLAlchemy URL (`sqlite+aiosqlite:///path`)."""

    def __init__(self, url: str):
        self.url = url
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        self._write_turn = asyncio.Lock()
        if self.sqlite:
            self._writer = _sqlite(url, "BEGIN IMMEDIATE", size=1)
            self._reader = _sqlite(url, "BEGIN", size=READERS)
        else:
            self._writer = _postgres(url, "READ COMMITTED")
            self._reader = _postgres(url, "REPEATABLE READ")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view of the database."""
        async with self._reader.connect() as connection:
            await connection.begin()
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block and rolls back when it raises."""
        if not self.sqlite:
            async with self._writer.begin() as connection:
                yield connection
            return
        # Waiting here, in order of arrival, instead of in SQLite's busy loop.
        async with self._write_turn, self._writer.begin() as connection:
            yield connection

    async def close(self) -> None:
        await self._reader.dispose()
        await self._writer.dispose()


def _postgres(url: str, isolation_level: str) -> AsyncEngine:
    return create_async_engine(url, isolation_level=isolation_level, pool_size=READERS, hide_parameters=True)


def _sqlite(url: str, begin: str, size: int) -> AsyncEngine:
    # Values are hidden in errors, which are logged: a job's variables may be secrets.
    engine = create_async_engine(
        url, pool_size=size, max_overflow=0, hide_parameters=True, connect_args={"timeout": 15}
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 15000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
