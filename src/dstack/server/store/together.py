"""Group commit: everything that waits for its turn to be written goes in one transaction.

A transaction costs more than what one act or host has to say; of a thousand that tell at once, each would wait for all
before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.server.store.database import Database
from dstack.server.store.trouble import DatabaseUnavailable
from dstack.server.store.unbroken import unbroken

T = TypeVar("T")
R = TypeVar("R")
MOST = 256  # in one transaction
# Writes some items, in their order; answers for each its result, or the exception of which its writer hears.
Write = Callable[[AsyncConnection, Sequence[T]], Awaitable[Sequence[R | Exception]]]


class Together(Generic[T, R]):
    """Whoever is first in line writes for all who wait behind it."""

    def __init__(self, database: Database, write: Write[T, R]):
        self._database = database
        self._write = write
        self._turn = asyncio.Lock()
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()

    async def put(self, item: T) -> R:
        """Its result, as soon as it is stored. Raises what `write` answered for it, or what kept it from being written.

        One that is cancelled before its turn is not written.
        """
        mine = (item, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        try:
            async with self._turn:
                if not mine[1].done():
                    await self._to_its_end()
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
        return mine[1].result()

    async def _to_its_end(self) -> None:
        """Cancelled or not: others wait for it."""
        await unbroken(asyncio.ensure_future(self._write_some()))

    async def _write_some(self) -> None:
        some = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        try:
            if await self._error_of(some) is not None:
                for one in some:  # one of them cannot be written: the others can
                    error = await self._error_of([one])
                    if error is not None:
                        _fail(one[1], error)
        except DatabaseUnavailable as e:
            for _, done in some:
                if not done.done():
                    _fail(done, DatabaseUnavailable(str(e), unsure=e.unsure))

    async def _error_of(self, some: Sequence[tuple[T, asyncio.Future[R]]]) -> Exception | None:
        """What keeps these from being written. Raises DatabaseUnavailable: each other try would wait for it again."""
        try:
            await self._transaction(some)
        except DatabaseUnavailable:
            raise
        except Exception as e:
            return e
        return None

    async def _transaction(self, some: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        async with self._database.write() as connection:
            results = await self._write(connection, [item for item, _ in some])
        for (_, done), result in zip(some, results, strict=True):
            if isinstance(result, Exception):
                _fail(done, result)
            else:
                done.set_result(result)


def _fail(done: asyncio.Future, error: Exception) -> None:
    done.set_exception(error)
    done.exception()  # seen: whoever waited for it may be gone
