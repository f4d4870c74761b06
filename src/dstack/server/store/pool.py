"""PostgreSQL: pools of connections with explicit transactions, in which no step is waited for without end.

PostgreSQL is asked to give up first, as it says why, and the connection can be used again. Where nothing comes back at
all, as from a network that swallows everything, the connection is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dstack.server.store.slowness import Slowness
from dstack.server.store.trouble import Trouble

T = TypeVar("T")
SIZE = 8  # connections that read, and as many that write
RESTED_S = 10.0  # a connection that was not used for so long is asked whether it still is one
# A server that is frozen in the middle of a transaction keeps its locks for so long, which is less than its lease.
FROZEN_MS = 5000
CONNECT_S = 10.0
CLOSE_S = 2.0
STATEMENT_MORE_S = 2.0  # than a lock is waited for: a statement that is at work
ANSWER_MORE_S = 5.0  # than a lock is waited for: any answer at all


class Pool:
    """`patience_s`: how long a lock is waited for; None: everything is waited for as long as it takes."""

    def __init__(self, url: str, trouble: Trouble, slowness: Slowness, patience_s: float | None):
        self._trouble = trouble
        self._slowness = slowness
        self._answer_s = None if patience_s is None else patience_s + ANSWER_MORE_S
        limits = {} if patience_s is None else _limits(patience_s)
        frozen = {"idle_in_transaction_session_timeout": str(FROZEN_MS)}
        self._writer = _engine(url, "READ COMMITTED", limits | frozen, self._answer_s)
        self._reader = _engine(url, "REPEATABLE READ", limits, self._answer_s)

    @property
    def reading(self) -> Engine:
        return self._reader.sync_engine

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with self._connected(self._reader) as connection:
            yield cast(AsyncConnection, _Stepwise(connection, self._step))

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self._connected(self._writer) as connection:
            yield cast(AsyncConnection, _Stepwise(connection, self._step))
            await self._step("a commit has not been answered", connection.commit(), committing=True)

    async def close(self) -> None:
        """Connections that do not end in time are left to the other side."""
        for engine in (self._reader, self._writer):
            try:
                async with asyncio.timeout(CLOSE_S):
                    await engine.dispose()
            except TimeoutError:
                await engine.dispose(close=False)

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Rolled back at the end, unless it was committed."""
        async with AsyncExitStack() as stack:
            entering = stack.enter_async_context(engine.connect())
            connection = await self._step("a connection to it has not come up", entering)
            await connection.begin()
            yield connection

    async def _step(self, what: str, step: Awaitable[T], *, committing: bool = False) -> T:
        """Raises DatabaseUnavailable when there is no answer."""
        with self._trouble.watch(remote=True, committing=committing), self._slowness.waiting(what):
            async with asyncio.timeout(self._answer_s):
                return await step


class _Stepwise:
    """What the store uses of an AsyncConnection; each statement has its deadline."""

    def __init__(self, connection: AsyncConnection, step: Callable[[str, Awaitable[Any]], Awaitable[Any]]):
        self._connection = connection
        self._step = step
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        return await self._step("a statement has not been answered", self._connection.execute(statement, parameters))

    async def run_sync(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return await self._connection.run_sync(step, *arguments)


def _limits(patience_s: float) -> dict[str, str]:
    """What PostgreSQL itself gives up, also for those that are gone meanwhile."""
    lock_ms, statement_ms = int(patience_s * 1000), int((patience_s + STATEMENT_MORE_S) * 1000)
    return {"lock_timeout": str(lock_ms), "statement_timeout": str(statement_ms)}


def _engine(url: str, isolation_level: str, settings: dict[str, str], answer_s: float | None) -> AsyncEngine:
    # The end of a transaction is not a step of ours: asyncpg's own deadline keeps it from waiting for ever.
    deadlines = {} if answer_s is None else {"timeout": CONNECT_S, "command_timeout": answer_s * 2}
    engine = create_async_engine(
        url,
        isolation_level=isolation_level,
        pool_size=SIZE,
        max_overflow=0,
        pool_timeout=answer_s or 30.0,
        hide_parameters=True,
        connect_args=deadlines,
    )
    keep_alive(engine.sync_engine)
    # Not as parameters of the start-up, which PgBouncer refuses.
    wanted = "; ".join(f"SET {name} = {value}" for name, value in settings.items())

    @event.listens_for(engine.sync_engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        if wanted:
            dbapi_connection.run_async(lambda connection: connection.execute(wanted))

    return engine


def keep_alive(engine: Engine, rested_s: float = RESTED_S) -> None:
    """Connections of before a restart of the database are no errors: others are made instead.

    One that a network has forgotten is not known to be closed, so it is asked when it was not used for `rested_s`.
    SQLAlchemy would ask each, each time, which is three of the eight questions of a usual transaction.
    """

    @event.listens_for(engine, "checkin")
    def rest(_connection: Any, record: Any) -> None:
        record.info["since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: Any, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError()
        if time.monotonic() - record.info.get("since", time.monotonic()) >= rested_s:
            try:
                connection.ping()
            except Exception as e:  # whatever it is, it is no connection to be used
                raise InvalidatePoolError() from e
