"""A server that dies at one instant: the generic wrapper of its store and its database behind the tests of crashes.

A point is VERB:WHAT:WHEN. VERB is a transaction of the store, WHAT the kind of a decided row, an act's verb, or what
was observed, WHEN `before` or `after` it; for instance `finish_act:create_instance:before` is the instant when a
machine was made and nobody has written so. `write:any:before` is the end of any transaction at all, not yet committed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.kernel import Turn
from dstack.control.snapshots import Snapshot
from dstack.model.observation import TaskReported
from dstack.model.row import Ref
from dstack.server.store.acts import ClaimedAct, Seen
from dstack.server.store.claims import Claim
from dstack.server.store.commit import Committed
from dstack.server.store.database import Database
from dstack.server.store.host_links import Hold
from dstack.server.store.servers import LEASE_S, Member, Others, Pulse
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable

T = TypeVar("T")


class Died(BaseException):
    """Not an Exception: nothing that mends failures may mend this one."""


async def _nothing() -> None:
    """Nobody looks."""


class Fate:
    """When one life of a server ends: at the `count`th passage through one of `points` once `armed`, or at `end`.

    From then on every use of its database raises Died: what is dead writes nothing, however politely its parts are
    taken down; `where` says how it ended. `looked` is called after every commit of the engine, an act or an
    observation; `slow_s` tells before each how long it takes to begin, so that others come between load and commit.
    `buried` is called when the server learns that others took it for dead, though it has told them that it lives again
    and again: none of its last words were lost.
    """

    def __init__(
        self,
        *points: str,
        count: int = 1,
        looked: Callable[[], Awaitable[None]] = _nothing,
        slow_s: Callable[[], float] = lambda: 0.0,
        buried: Callable[[], None] = lambda: None,
    ):
        self.where = ""
        self.slow_s = slow_s
        self.buried = buried
        self.unheard = True  # since it last said that it lives
        self._points = frozenset(points)
        self.armed = False
        self.dead = False
        self.died = asyncio.Event()
        self.passed: Counter[str] = Counter()
        self.looked = looked
        self._left = count

    def store(self, of: type[Store] = Store) -> type[Store]:
        """A store class of this life, in front of `of`."""
        return type(f"Dying{of.__name__}", (DyingStore, of), {"fate": self})

    def database(self, of: type[Database] = Database) -> type[Database]:
        return type(f"Dying{of.__name__}", (DyingDatabase, of), {"fate": self})

    def alive(self) -> None:
        """Raises Died."""
        if self.dead:
            raise Died(self.where)

    def end(self, where: str) -> None:
        self.where = where
        self.dead = True
        self.died.set()

    def passing(self, verb: str, what: Iterable[str], when: str) -> None:
        """Raises Died when this is the end."""
        self.alive()
        points = {f"{verb}:{one}:{when}" for one in what}
        self.passed.update(points)
        if self.armed and (hit := points & self._points):
            self._left -= 1
            if self._left == 0:
                self.end(min(hit))
                self.alive()


class DyingDatabase(Database):
    fate: Fate

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        self.fate.alive()
        async with super().read() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        self.fate.alive()
        async with super().write() as connection:
            yield connection
            self.fate.passing("write", ("any",), "before")
        self.fate.passing("write", ("any",), "after")


class DyingStore(Store):
    fate: Fate

    async def claim_due(self, now: float, owner: str, limit: int, lease_s: float) -> list[Claim]:
        claimed = await super().claim_due(now, owner, limit, lease_s)
        self.fate.passing("claim_due", {one.ref.kind for one in claimed}, "after")
        return claimed

    async def load(self, refs: Sequence[Ref]) -> dict[Ref, Snapshot]:
        loaded = await super().load(refs)
        self.fate.passing("load", {ref.kind for ref in loaded}, "after")
        return loaded

    async def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
        decisions = [d for _, turn in batch for d in (*turn.units, turn.own)]
        what = {d.ref.kind for d in decisions if not d.empty} | {a.verb for d in decisions for a in d.acts}
        parent = super()
        return await self._around("commit", what, lambda: parent.commit(batch, now))

    async def claim_acts(
        self, now: float, owner: str, limit: int, lease_s: float, without: Sequence[str] = ()
    ) -> list[ClaimedAct]:
        claimed = await super().claim_acts(now, owner, limit, lease_s, without)
        self.fate.passing("claim_acts", {one.verb for one in claimed}, "after")
        return claimed

    async def finish_act(self, one: ClaimedAct, seen: Sequence[Seen], now: float) -> bool:
        parent = super()
        return await self._around("finish_act", {one.verb}, lambda: parent.finish_act(one, seen, now))

    async def retry_act(self, one: ClaimedAct, seen: Sequence[Seen], due_at: float, error: str, now: float) -> bool:
        parent = super()
        return await self._around("retry_act", {one.verb}, lambda: parent.retry_act(one, seen, due_at, error, now))

    async def observe(
        self, seen: Iterable[Seen], now: float, hold: Hold | None = None, hasten: str | None = None
    ) -> None:
        seen, parent = list(seen), super()
        what = {o.state if isinstance(o, TaskReported) else o.type for _, o in seen}
        await self._around("observe", what, lambda: parent.observe(seen, now, hold, hasten))

    async def take_links(self, server_id: str, ids: Sequence[str]) -> list[Hold]:
        parent = super()
        return await self._around("take_links", ("host",), lambda: parent.take_links(server_id, ids))

    async def beat(
        self, me: Member, now: float, lease_s: float = LEASE_S, slack_s: Callable[[], float] = lambda: 0.0
    ) -> tuple[Pulse, Others]:
        try:
            pulse, others = await super().beat(me, now, lease_s, slack_s)
        except DatabaseUnavailable:
            self.fate.unheard = True
            raise
        if pulse is Pulse.BURIED and not self.fate.unheard:
            self.fate.buried()
        self.fate.unheard = False
        return pulse, others

    async def _around(self, verb: str, what: Iterable[str], call: Callable[[], Awaitable[T]]) -> T:
        if slow_s := self.fate.slow_s():
            await asyncio.sleep(slow_s)
        self.fate.passing(verb, what, "before")
        done = await call()
        await self.fate.looked()
        self.fate.passing(verb, what, "after")
        return done


def classes(fate: Fate, store: type[Store] = Store, database: type[Database] = Database) -> dict[str, Any]:
    """What `running` is given for a life of that fate."""
    return {"store_class": fate.store(store), "database_class": fate.database(database)}


async def until_it_dies(life: Awaitable[object]) -> None:
    """Wait for a life that ends with Died; any other end is passed on. AssertionError if it ends well."""
    died = False
    try:
        await life
    except* Died:
        died = True
    assert died, "the server lived to the end of the test"
