"""Runs recorded acts: claims them, calls the handler of their verb, records what was seen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from dstack.clock import Clock
from dstack.server.journal import about
from dstack.server.meter import Meter
from dstack.server.store.acts import ClaimedAct, Seen
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable, complain

log = logging.getLogger(__name__)
LEASE_S = 60.0
SCAN_S = 60.0
MAX_BACKOFF_S = 60.0
UNKNOWN_S = 2.0
RECORD_AGAIN_S = 1.0  # what was done is not done again because the database could not be told


@dataclass(frozen=True)
class Done:
    """The act is over; `seen` goes to the inboxes."""

    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class Again:
    """Not over: run it again, after `after_s` or the usual back-off. `error` is shown to operators; no secrets."""

    error: str
    after_s: float | None = None
    seen: tuple[Seen, ...] = ()


Handler = Callable[[ClaimedAct], Awaitable[Done | Again]]


def backoff(attempts: int) -> float:
    """Seconds until the next try: 0.5, 1, 2, ... up to a minute."""
    return min(MAX_BACKOFF_S, 0.5 * 2 ** min(attempts, 10))


class ActRunner:
    """At most `workers` acts at once. A crash between a handler's effect and its record runs the act again.

    `scan_s`: how long to trust that whoever makes an act due tells us.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        owner: str,
        handlers: Mapping[tuple[str, str], Handler],
        workers: int,
        kick_engine: Callable[[], None],
        scan_s: Callable[[], float] = lambda: SCAN_S,
        meter: Meter | None = None,
    ):
        self._store = store
        self._clock = clock
        self._owner = owner
        self._handlers = handlers
        self._workers = workers
        self._kick_engine = kick_engine
        self._scan_s = scan_s
        self._meter = meter or Meter()
        # No verb may take all workers: a log that cannot be stored must not keep machines from being terminated.
        self._share = max(1, workers * 3 // 4)
        self._kicked = asyncio.Event()
        self._running: dict[str, ClaimedAct] = {}
        self._claiming = asyncio.Lock()

    def kick(self) -> None:
        """An act was recorded or became due."""
        self._kicked.set()

    async def run(self) -> None:
        """Run acts until cancelled; a cancelled handler's act is claimed again after its lease."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_claims())
            while True:
                self._kicked.clear()
                wait = await self._start_due(group)
                try:
                    async with asyncio.timeout(wait):
                        await self._kicked.wait()
                except TimeoutError:
                    pass

    async def _start_due(self, group: asyncio.TaskGroup) -> float:
        """Start what is due; seconds until something else can be."""
        counts = Counter(one.verb for one in self._running.values())
        full = [verb for verb, count in counts.items() if count >= self._share]
        # As many as there is room for, whatever verb they all may have.
        most = max((count for verb, count in counts.items() if verb not in full), default=0)
        room = min(self._workers - len(self._running), self._share - most)
        if room <= 0:
            return SCAN_S  # a finished act kicks
        try:
            claimed = await self._claim(group, room, full)
            due = None if claimed else await self._store.next_act_due(self._owner, full)
        except Exception:
            complain(log, "claiming acts failed; trying again")
            return 1.0
        if claimed:
            return 0.0
        scan_s = self._scan_s()
        return scan_s if due is None else min(scan_s, max(0.01, due - self._clock.now()))

    async def _claim(self, group: asyncio.TaskGroup, room: int, full: Sequence[str]) -> list[ClaimedAct]:
        async with self._claiming:
            claimed = await self._store.claim_acts(self._clock.now(), self._owner, room, LEASE_S, full)
            for one in claimed:
                known = one.token in self._running
                self._running[one.token] = one
                # One that runs here still, though its lease is over (the machine was suspended), is not begun once
                # more: its end is recorded under the newest claim.
                if not known:
                    group.create_task(self._perform(one))
        return claimed

    async def _perform(self, one: ClaimedAct) -> None:
        began, how = time.perf_counter(), "error"
        self._meter.act_began(one.verb)
        with about(act=one.token, **{one.ref.kind: one.ref.id}):
            try:
                outcome = await self._outcome(one)
                how = "done" if isinstance(outcome, Done) else "again"
                await self._recorded(one.token, outcome)
                if how == "done":
                    log.debug("act %s of %s %s took %.2f s", one.verb, *one.ref, time.perf_counter() - began)
            except Exception:
                log.exception("act %s of %s %s could not be recorded; it runs again", one.verb, *one.ref)
            finally:
                self._meter.act_ended(one.verb, how, time.perf_counter() - began)
                del self._running[one.token]
                self.kick()

    async def _outcome(self, one: ClaimedAct) -> Done | Again:
        handler = self._handlers.get((one.ref.kind, one.verb))
        if handler is None:
            # Another one may be newer.
            return Again(f"this server does not know how to {one.verb} a {one.ref.kind}", after_s=UNKNOWN_S)
        try:
            return await handler(one)
        except Exception as e:
            complain(log, "act %s of %s %s failed; it runs again", one.verb, *one.ref)
            return Again(f"{type(e).__name__}")

    async def _recorded(self, token: str, outcome: Done | Again) -> None:
        while True:
            one = self._running[token]
            try:
                if await self._record(one, outcome):
                    return
            except DatabaseUnavailable:
                await asyncio.sleep(RECORD_AGAIN_S)
                continue
            # The claim was lost. If this server has it anew, which may not have come back from the database yet, the
            # outcome counts under that; else whoever has it runs the act again.
            async with self._claiming:
                if self._running[token] is one:
                    return

    async def _record(self, one: ClaimedAct, outcome: Done | Again) -> bool:
        """False when the claim was lost."""
        now = self._clock.now()
        if isinstance(outcome, Done):
            held = await self._store.finish_act(one, outcome.seen, now)
        else:
            after = backoff(one.attempts) if outcome.after_s is None else outcome.after_s
            log.info("act %s of %s %s runs again in %.1f s: %s", one.verb, *one.ref, after, outcome.error)
            held = await self._store.retry_act(one, outcome.seen, now + after, outcome.error, now)
        self._kick_engine()
        return held

    async def _keep_claims(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                if self._running:
                    await self._store.extend_acts(list(self._running.values()), self._clock.now() + LEASE_S)
            except Exception:
                complain(log, "claims of running acts could not be extended; trying again")
