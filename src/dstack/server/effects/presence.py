"""This server among the others: says that it lives, takes over from the dead, shares the hosts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from dstack.clock import Clock
from dstack.errors import DstackError
from dstack.model.row import Ref
from dstack.server.effects.links import HostLinks
from dstack.server.store.changes import Changes
from dstack.server.store.news import HELLO, News
from dstack.server.store.servers import LEASE_S, Member, Others, Pulse
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable

log = logging.getLogger(__name__)
BEAT_S = 1.5
SLACK = 3.0  # times as long as a beat takes: so much longer is a server believed to live
LONGEST_BEAT_S = 30.0
ALL_LINKS_EVERY = 20  # beats
# Told to others: these, beside the keys of rows and logs.
ACTS, LINKS, DUE = "acts", "links", "due"
SHARED_SCAN_S = 1.0  # backstop where others may make things due and what they tell may be lost
ALONE_SCAN_S = 60.0


class Presence:
    """`recheck` is asked when this server was silent for so long that others took over: may it go on?"""

    def __init__(
        self,
        store: Store,
        me: Member,
        clock: Clock,
        changes: Changes,
        news: News | None,
        kick_engine: Callable[[], None],
        kick_acts: Callable[[], None],
        recheck: Callable[[], Awaitable[None]],
    ):
        self.others: tuple[str, ...] = ()
        self.links: HostLinks | None = None
        self._store = store
        self._me = me
        self._clock = clock
        self._changes = changes
        self._news = news
        self._kick_engine = kick_engine
        self._kick_acts = kick_acts
        self._recheck = recheck
        self._beat_s = 0.0  # how long the last one took

    def scan_s(self) -> float:
        """How long to trust that whoever makes something due tells us."""
        if self._news is None or (self._news.alone and self._news.connected):
            return ALONE_SCAN_S
        return SHARED_SCAN_S

    async def run(self) -> None:
        """Until cancelled. Raises DstackError when this server may not go on."""
        if self._news is None:
            return
        beats = 0
        while True:
            try:
                await self._beat()
                beats += 1
                if beats % ALL_LINKS_EVERY == 0 and self.links is not None:
                    self.links.look_at_all()
            except DstackError:
                raise
            except Exception as e:
                if not isinstance(e, DatabaseUnavailable):  # that was told
                    log.error("the database did not hear that this server lives: %s; trying again", type(e).__name__)
            await asyncio.sleep(BEAT_S)

    async def leave(self) -> None:
        """Give everything back, and tell the others so."""
        await self._store.leave(self._me)
        if self._news is not None and self.others:
            await self._news.say(HELLO, LINKS, ACTS, DUE)

    def tell(self, topics: Iterable[str]) -> None:
        """Let the other servers hear it, where there are any."""
        if self._news is not None:
            self._news.tell(topics)

    def heard(self, topics: Sequence[str]) -> None:
        """Another server told these."""
        if DUE in topics or HELLO in topics:
            self._kick_engine()
        if ACTS in topics:
            self._kick_acts()
        if self.links is not None:
            if LINKS in topics:
                self.links.look()
            self.links.notice(Ref("instance", t[9:]) for t in topics if t.startswith("instance:"))
        self._changes.heard(t for t in topics if ":" in t)

    def missed(self) -> None:
        """What others told may have been lost."""
        self._changes.missed()
        self._kick_engine()
        self._kick_acts()
        if self.links is not None:
            self.links.look_at_all()

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        # On a slow database all servers are late: that proves nothing about who lives.
        lease_s, slack_s = LEASE_S + SLACK * self._beat_s, lambda: SLACK * (loop.time() - began)
        try:
            pulse, others = await self._store.beat(self._me, self._clock.now(), lease_s, slack_s)
        finally:
            self._beat_s = min(LONGEST_BEAT_S, loop.time() - began)
        if pulse is Pulse.REPLACED:
            raise DstackError(
                "Another server took the id of this one",
                hint="its folder is a copy of this server's: delete server.id in the copy",
            )
        self._see(others)
        if self.links is None:
            return
        if pulse is Pulse.BURIED:
            log.warning("this server was silent for too long: others took over its hosts; starting anew")
            await self._recheck()
            await self.links.drop_all()
            self.missed()
        if others.alive or others.buried:
            self.links.look()
            if await self.links.even_out():
                self.tell([LINKS])

    def _see(self, others: Others) -> None:
        for gone in others.buried:
            log.warning("server %s is silent: what it held is taken over", gone)
        self.others = others.alive
        if self._news is not None:
            self._news.alone = not others.alive
        if others.buried:
            self._kick_engine()
            self._kick_acts()
            self.tell([LINKS, ACTS, DUE])
