"""Databases that are slow: in virtual time, or behind a link that delays or swallows what goes over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.server.store.database import Database
from support.virtual_time import virtual_loop
from support.watching import tell_time

SOCKET = ".s.PGSQL.5432"


class SlowDatabase(Database):
    """Each statement takes `statement_s` of virtual time more, each transaction that writes `commit_s` at its end."""

    statement_s = 0.5
    commit_s = 2.0

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with super().read() as connection:
            yield cast(AsyncConnection, _Slow(connection, self.statement_s))

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with super().write() as connection:
            yield cast(AsyncConnection, _Slow(connection, self.statement_s))
            await asyncio.sleep(self.commit_s)


class _Slow:
    def __init__(self, connection: AsyncConnection, statement_s: float):
        self._connection = connection
        self._statement_s = statement_s
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        await asyncio.sleep(self._statement_s)
        with virtual_loop().at_work():
            if self.dialect.name != "sqlite":
                await tell_time(self._connection)
            return await self._connection.execute(statement, parameters)

    async def run_sync(self, step: Any, *arguments: Any) -> Any:
        return await self._connection.run_sync(step, *arguments)


class Link:
    """Forwards to a PostgreSQL whose socket is in a folder; `url` goes through it.

    While `open` is not set everything is swallowed: nothing comes through, and nothing breaks. What was on the way then
    is lost, with the connections of that time. What is said over a connection of before `forget` is not carried: it
    ends then, and not before.
    """

    def __init__(self, folder: Path, target: Path):
        self.url = f"postgresql+asyncpg://postgres@/?host={folder}"
        self.open = True
        self.deaf_to_answers = False
        self._folder = folder
        self._target = target
        self._era = 0
        self._pumps: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Link]:
        server = await asyncio.start_unix_server(self._met, self._folder / SOCKET)
        try:
            yield self
        finally:
            server.close()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    def forget(self) -> None:
        self._era += 1

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target / SOCKET)
        for source, sink, answers in ((reader, back, False), (there, writer, True)):
            pump = asyncio.ensure_future(self._pump(source, sink, answers))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        lost, era = False, self._era
        with contextlib.closing(sink), contextlib.suppress(OSError):
            while piece := await source.read(65536):
                if era != self._era and not answers:
                    break
                lost = lost or not self.open or (answers and self.deaf_to_answers)
                if not lost:
                    sink.write(piece)
                    await sink.drain()
