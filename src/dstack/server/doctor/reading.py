"""Reads a database without changing anything in it, whether or not its server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import quote

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from dstack.server.store.database import Database

BUSY_S = 10


class _InPlace:
    """What is used here of an AsyncConnection, over a SQLite connection."""

    def __init__(self, connection: Connection):
        self._connection = connection

    @property
    def dialect(self) -> Any:
        return self._connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.execute(statement, parameters)


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[AsyncConnection]:
    """One consistent view. The connection settings of a server, which change the file, are not made here."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        database = Database(url)
        try:
            async with database.read() as connection:
                yield connection
        finally:
            await database.close()
        return
    readonly = f"sqlite:///file:{quote(parsed.database or '')}?mode=ro&uri=true"
    engine = create_engine(readonly, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": BUSY_S})
    try:
        with engine.connect() as connection:
            yield cast(AsyncConnection, _InPlace(connection))
    finally:
        engine.dispose()
