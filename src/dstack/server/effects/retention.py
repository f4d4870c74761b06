"""Retention: deletes what is older than the rules keep, a batch at a time, so that nobody waits for it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dstack.clock import Clock
from dstack.model.observation import Retained
from dstack.server.effects.acts import Done
from dstack.server.effects.retention_files import FileRules
from dstack.server.effects.retention_rows import BATCH, RowRules
from dstack.server.logs.files import LogStore
from dstack.server.settings import Settings
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.blobs import BlobStore
from dstack.server.store.database import Database

log = logging.getLogger(__name__)
# Batches of one kind in one round; what is left waits for the next one, which begins at once.
MAX_BATCHES = 50


@dataclass(frozen=True)
class Rule:
    """`step` deletes at most BATCH of what it is about, given the instant before which it goes; `ttl_s` 0: never."""

    what: str
    ttl_s: float
    step: Callable[[float], Awaitable[int]]


class Retention:
    def __init__(self, database: Database, logs: LogStore, blobs: BlobStore, settings: Settings, clock: Clock):
        rows, files = RowRules(database, logs), FileRules(database, blobs)
        keep = settings.keep
        self._clock = clock
        self._rules: Sequence[Rule] = (
            Rule("events", keep.events_s, rows.events),
            Rule("metrics", keep.metrics_s, rows.metrics),
            Rule("deleted_runs", keep.deleted_runs_s, rows.deleted_runs),
            Rule("runs", keep.runs_s, rows.runs),
            Rule("logs", keep.logs_s, rows.logs),
            Rule("instances", keep.fleets_s, rows.instances),
            Rule("fleets", keep.fleets_s, rows.fleets),
            Rule("orphans", keep.events_s, rows.orphans),
            Rule("uploads", keep.uploads_s, files.uploads),
            Rule("blobs", keep.uploads_s, files.blobs),
        )

    async def apply(self, act: ClaimedAct) -> Done:
        """One round over all rules. It may be cut off anywhere: what is gone is gone, the rest goes next time."""
        removed: Counter[str] = Counter()
        more = False
        for rule in self._rules:
            if not rule.ttl_s:
                continue
            before = self._clock.now() - rule.ttl_s
            for _batch in range(MAX_BATCHES):
                count = await rule.step(before)
                removed[rule.what] += count
                if count < BATCH:
                    break
            else:
                more = True
        gone = {what: count for what, count in removed.items() if count}
        if gone:
            log.info("retention deleted %s", ", ".join(f"{count} {what}" for what, count in sorted(gone.items())))
        return Done(((act.ref, Retained(removed=gone, more=more)),))
