"""The five verbs in a loop. Time, database and decisions meet here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dstack.clock import Clock
from dstack.control.decide import decide
from dstack.control.kernel import Probe, Turn
from dstack.control.snapshots import Snapshot
from dstack.model.event import Event
from dstack.model.row import Ref
from dstack.server.engine.subject import subject
from dstack.server.journal import about
from dstack.server.meter import Meter
from dstack.server.store.claims import Claim
from dstack.server.store.commit import Committed
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable, complain

log = logging.getLogger(__name__)
BATCH = 256
BREATH = 32  # decisions, then whoever else waits has the loop
LEASE_S = 30.0
LEASE_TURNS = 4.0  # a lease outlasts so many turns as long as the last: on a slow database servers take turns otherwise
SCAN_S = 60.0  # backstop: the next due instant is known, and whoever makes something due kicks
POISON_S = 60.0  # a resource whose decision raises is looked at again then, and does not stop the others


@dataclass
class Dispatch:
    """Where a commit's consequences go; each is called after the commit, never before."""

    acts: Callable[[], None]
    probes: Callable[[Sequence[Probe]], None]
    touched: Callable[[set[Ref]], None]


class Engine:
    """`scan_s`: how long to trust that whoever makes something due tells us."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        owner: str,
        dispatch: Dispatch,
        scan_s: Callable[[], float] = lambda: SCAN_S,
        meter: Meter | None = None,
    ):
        self._store = store
        self._clock = clock
        self._owner = owner
        self._dispatch = dispatch
        self._scan_s = scan_s
        self._meter = meter or Meter()
        self._kicked = asyncio.Event()
        self._lease_s = LEASE_S
        self._stuck: list[Claim] = []  # of turns that the database cut short: given back as soon as it can be used

    def kick(self) -> None:
        """Something became due just now."""
        self._kicked.set()

    async def run(self) -> None:
        """Decide what is due until cancelled."""
        while True:
            self._kicked.clear()
            try:
                if await self.turn():
                    continue
                due = None if self._kicked.is_set() else await self._store.next_due()
            except Exception:
                complain(log, "engine turn failed; trying again")
                await asyncio.sleep(1.0)
                continue
            scan_s = self._scan_s()
            wait = scan_s if due is None else min(scan_s, max(0.0, due - self._clock.now()))
            try:
                async with asyncio.timeout(wait):
                    await self._kicked.wait()
            except TimeoutError:
                pass

    async def turn(self) -> int:
        """One turn over up to BATCH due resources; answers how many were claimed."""
        if self._stuck:
            await self._store.release(self._stuck, self._clock.now())
            self._stuck = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        claims = await self._store.claim_due(self._clock.now(), self._owner, BATCH, self._lease_s)
        if not claims:
            return 0
        try:
            await self._turn(claims)
        except DatabaseUnavailable:
            self._stuck = claims
            raise
        finally:
            self._lease_s = max(LEASE_S, LEASE_TURNS * (loop.time() - began))
        return len(claims)

    async def _turn(self, claims: Sequence[Claim]) -> None:
        began = time.perf_counter()
        snapshots = await self._load(claims)
        batch: list[tuple[Claim, Turn]] = []
        poisoned: list[Claim] = []
        for n, claim in enumerate(claims, 1):
            turn = self._decide(claim, snapshots.get(claim.ref))
            if turn is None:
                poisoned.append(claim)
            else:
                batch.append((claim, turn))
            if n % BREATH == 0:
                await asyncio.sleep(0)
        await self._commit(batch, poisoned)
        if poisoned:
            await self._store.release(poisoned, self._clock.now() + POISON_S)
        self._meter.turned(time.perf_counter() - began)

    async def _load(self, claims: Sequence[Claim]) -> dict[Ref, Snapshot]:
        """Snapshots by ref. One that cannot be read is absent, and does not stop the others."""
        try:
            return await self._store.load([c.ref for c in claims])
        except DatabaseUnavailable:
            raise
        except Exception:
            log.warning("a batch of %d rows could not be loaded; loading one by one", len(claims))
        found: dict[Ref, Snapshot] = {}
        for claim in claims:
            try:
                found.update(await self._store.load([claim.ref]))
            except DatabaseUnavailable:
                raise
            except Exception:
                log.exception("loading %s %s failed; looked at again in %d s", *claim.ref, int(POISON_S))
        return found

    def _decide(self, claim: Claim, snapshot: Snapshot | None) -> Turn | None:
        if snapshot is None:
            return None
        self._meter.decided(claim.ref.kind)
        with about(**subject(snapshot)):
            try:
                return decide(snapshot, self._clock.now())
            except Exception:
                self._meter.failed()
                log.exception("deciding %s %s failed; looked at again in %d s", *claim.ref, int(POISON_S))
                return None

    async def _commit(self, batch: list[tuple[Claim, Turn]], poisoned: list[Claim]) -> None:
        if not batch:
            return
        try:
            self._dispatched(await self._store.commit(batch, self._clock.now()))
        except DatabaseUnavailable:
            raise
        except Exception:
            if len(batch) == 1:
                log.exception("committing %s %s failed; looked at again in %d s", *batch[0][0].ref, int(POISON_S))
                poisoned.append(batch[0][0])
                return
            log.warning("a batch of %d decisions was refused by the database; committing one by one", len(batch))
            for one in batch:
                await self._commit([one], poisoned)

    def _dispatched(self, committed: Committed) -> None:
        self._meter.committed(len(committed.accepted), len(committed.refused))
        self._dispatch.touched(committed.touched)
        if committed.acts:
            self._dispatch.acts()
        if committed.probes:
            self._dispatch.probes(committed.probes)
        if log.isEnabledFor(logging.DEBUG):
            for event in (event for decision in committed.accepted for event in decision.events):
                _tell(event)


def _tell(event: Event) -> None:
    with about(**{target.type: target.id for target in event.targets}):
        log.debug("[%s] %s", ", ".join(f"{target.type} {target.name}" for target in event.targets), event.message)
