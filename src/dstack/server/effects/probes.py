"""Asks the read-only questions of decisions; an answer that is lost is asked for again by the next decision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from dstack.control.kernel import Probe
from dstack.model.instance import Instance
from dstack.model.row import Ref
from dstack.server.journal import about
from dstack.server.store.database import Database
from dstack.server.store.rows import row
from dstack.server.store.trouble import DatabaseUnavailable

log = logging.getLogger(__name__)
MAX_WAITING = 1000
AT_ONCE = 8

Asker = Callable[[Probe], Awaitable[None]]


def within_reach(database: Database, server_id: str, asker: Asker) -> Asker:
    """`asker` for instances that this server reaches: to any other one a machine of a server would seem gone."""

    async def ask(probe: Probe) -> None:
        instance = await row(database, Instance, probe.ref.id)
        if instance.offer.server_id in (None, server_id):
            await asker(probe)

    return ask


class ProbeRunner:
    """One question of a kind at a time for each resource."""

    def __init__(self, askers: Mapping[tuple[str, str], Asker], kick_engine: Callable[[], None]):
        self._askers = askers
        self._kick_engine = kick_engine
        self._queue: asyncio.Queue[Probe] = asyncio.Queue(MAX_WAITING)
        self._waiting: set[tuple[Ref, str]] = set()

    def ask(self, probes: Sequence[Probe]) -> None:
        for probe in probes:
            if (probe.ref, probe.verb) not in self._waiting and not self._queue.full():
                self._waiting.add((probe.ref, probe.verb))
                self._queue.put_nowait(probe)

    async def run(self) -> None:
        """Ask until cancelled, several at once: a provider that takes its time must not hold up the others."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            probe = await self._queue.get()
            with about(**{probe.ref.kind: probe.ref.id}):
                try:
                    await self._askers[probe.ref.kind, probe.verb](probe)
                    self._kick_engine()  # the answer may have made something due
                except Exception as e:
                    level = logging.DEBUG if isinstance(e, DatabaseUnavailable) else logging.WARNING
                    log.log(level, "probe %s of %s %s failed: %s", probe.verb, *probe.ref, type(e).__name__)
                finally:
                    self._waiting.discard((probe.ref, probe.verb))
