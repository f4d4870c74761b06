"""A server that dies at one named instant: the generic wrapper of its store behind the tests of crash points.

A point is VERB:WHAT:WHEN. VERB is a transaction of the store, WHAT the kind of a decided row, an act's verb, or what
was observed, WHEN `before` or `after` it; for instance `finish_act:create_instance:before` is the instant when a
machine was made and nobody has written so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from dstack.control.kernel import Turn
from dstack.model.observation import TaskReported
from dstack.server.store.acts import ClaimedAct, Seen
from dstack.server.store.claims import Claim
from dstack.server.store.commit import Committed
from dstack.server.store.host_links import Hold
from dstack.server.store.store import Store

T = TypeVar("T")


class Died(BaseException):
    """Not an Exception: nothing that mends failures may mend this one."""


class DyingStore(Store):
    """Once `armed`, the first passage through `point` is the end: from then on every call raises Died.

    What is dead writes nothing, however politely its parts are taken down.
    """

    point = ""
    armed = False
    dead = False

    async def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
        decisions = [d for _, turn in batch for d in (*turn.units, turn.own)]
        what = {d.ref.kind for d in decisions if not d.empty} | {a.verb for d in decisions for a in d.acts}
        parent = super()
        return await self._around("commit", what, lambda: parent.commit(batch, now))

    async def claim_due(self, now: float, owner: str, limit: int, lease_s: float) -> list[Claim]:
        self._alive()
        return await super().claim_due(now, owner, limit, lease_s)

    async def claim_acts(
        self, now: float, owner: str, limit: int, lease_s: float, without: Sequence[str] = ()
    ) -> list[ClaimedAct]:
        self._alive()
        claimed = await super().claim_acts(now, owner, limit, lease_s, without)
        self._pass("claim_acts", {one.verb for one in claimed}, "after")
        return claimed

    async def finish_act(self, one: ClaimedAct, seen: Sequence[Seen], now: float) -> bool:
        parent = super()
        return await self._around("finish_act", {one.verb}, lambda: parent.finish_act(one, seen, now))

    async def observe(self, seen: Iterable[Seen], now: float, hold: Hold | None = None) -> None:
        seen, parent = list(seen), super()
        what = {o.state if isinstance(o, TaskReported) else o.type for _, o in seen}
        await self._around("observe", what, lambda: parent.observe(seen, now, hold))

    async def release(self, held: list[Claim], due_at: float) -> None:
        self._alive()
        await super().release(held, due_at)

    async def retry_act(self, one: ClaimedAct, seen: Sequence[Seen], due_at: float, error: str, now: float) -> bool:
        self._alive()
        return await super().retry_act(one, seen, due_at, error, now)

    async def _around(self, verb: str, what: set[str], call: Callable[[], Awaitable[T]]) -> T:
        self._alive()
        self._pass(verb, what, "before")
        done = await call()
        self._pass(verb, what, "after")
        return done

    def _pass(self, verb: str, what: set[str], when: str) -> None:
        if self.armed and self.point in {f"{verb}:{one}:{when}" for one in what}:
            type(self).dead = True
            self._alive()

    def _alive(self) -> None:
        if self.dead:
            raise Died(self.point)


def dying_at(point: str) -> type[DyingStore]:
    """A class for one life."""
    return type("DyingStore", (DyingStore,), {"point": point})


async def until_it_dies(life: Awaitable[object]) -> None:
    """Wait for a life that ends with Died; any other end is passed on. AssertionError if it ends well."""
    died = False
    try:
        await life
    except* Died:
        died = True
    assert died, "the server lived to the end of the test"
