"""A PostgreSQL in virtual time that is slow for a while now and then, and loses answers to commits."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.server.store.database import PATIENCE_S, Database
from dstack.server.store.pool import Pool
from dstack.server.store.slowness import Slowness
from dstack.server.store.trouble import DatabaseUnavailable, Trouble
from support.virtual_time import virtual_loop
from support.watching import tell_time

T = TypeVar("T")
Season = tuple[float, float, float]  # when it begins, when it ends, about how long a step takes then
LOST = 0.02  # of commits get no answer; of these every second one was carried out
QUIET_S, SEASON_S = (5.0, 30.0), (20.0, 60.0)
STEPS_S = (0.3, 0.8, 2.0)  # about so long each step of a slow season takes


class Weather:
    """What the database does to one server until `until_s`. All servers of a story have the same slow seasons."""

    def __init__(self, seed: int, name: str, until_s: float):
        self.lost = 0
        self.slow = 0
        self._until_s = until_s
        self._seasons = _seasons(random.Random(f"{seed} seasons"), until_s)
        self._chance = random.Random(f"{seed} {name} weather")
        self._losses = random.Random(f"{seed} {name} losses")
        self.failed = 0  # steps that were waited for in vain

    def step_s(self) -> float:
        """How long the answer to a step takes that was carried out just now."""
        now = virtual_loop().time()
        about_s = next((step_s for begins, ends, step_s in self._seasons if begins <= now < ends), 0.0)
        self.slow += about_s > 0
        return about_s * self._chance.uniform(0.7, 1.3)

    def loses(self) -> bool:
        """A commit gets no answer."""
        lost = virtual_loop().time() < self._until_s and self._losses.random() < LOST
        self.lost += lost
        return lost

    def carries_out(self) -> bool:
        """A commit that gets no answer."""
        return self._losses.random() < 0.5


def weathered(weather: Weather) -> type[Database]:
    """A database class of that weather."""
    return type("WeatheredDatabase", (_Weathered,), {"weather": weather})


def _seasons(chance: random.Random, until_s: float) -> list[Season]:
    seasons: list[Season] = []
    at = 0.0
    while at < until_s:
        begins = at + chance.uniform(*QUIET_S)
        at = min(until_s, begins + chance.uniform(*SEASON_S))
        seasons.append((begins, at, chance.choice(STEPS_S)))
    return seasons


class _Weathered(Database):
    weather: Weather

    def __init__(self, url: str):
        super().__init__(url)
        self._source = _Pool(url, self.trouble, self.slowness, self.weather)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with super().write() as connection:
            yield cast(AsyncConnection, _Timed(connection))


class _Pool(Pool):
    """Below the deadlines of the real one."""

    def __init__(self, url: str, trouble: Trouble, slowness: Slowness, weather: Weather):
        super().__init__(url, trouble, slowness, PATIENCE_S)
        self._weather = weather

    async def _step(self, what: str, step: Awaitable[T], *, committing: bool = False) -> T:
        try:
            return await super()._step(what, self._met(step, committing), committing=committing)
        except DatabaseUnavailable:
            self._weather.failed += 1
            raise

    async def _met(self, step: Awaitable[T], committing: bool) -> T:
        lost = committing and self._weather.loses()
        if lost and not self._weather.carries_out():
            if inspect.iscoroutine(step):
                step.close()
            return await _no_answer()
        with virtual_loop().at_work():
            done = await step
        if lost:
            return await _no_answer()
        await asyncio.sleep(self._weather.step_s())
        return done


async def _no_answer() -> Any:
    await asyncio.Event().wait()


class _Timed:
    """PostgreSQL's clock is the loop's at each statement: time passes within a transaction."""

    def __init__(self, connection: AsyncConnection):
        self._connection = connection
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        plain: Any = self._connection
        with virtual_loop().at_work():
            await tell_time(plain._connection)
        return await self._connection.execute(statement, parameters)

    async def run_sync(self, step: Any, *arguments: Any) -> Any:
        return await self._connection.run_sync(step, *arguments)
