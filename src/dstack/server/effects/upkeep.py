"""What the server does for itself, put together: sweeps, the end of orphans, retention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dstack.clock import Clock
from dstack.server.effects.acts import Handler
from dstack.server.effects.probes import Asker
from dstack.server.effects.retention import Retention
from dstack.server.effects.sweep import Sweeper
from dstack.server.logs.files import LogStore
from dstack.server.services.backends import ProjectBackends
from dstack.server.settings import Settings
from dstack.server.store.blobs import BlobStore
from dstack.server.store.store import Store


@dataclass(frozen=True)
class Upkeep:
    """Who carries out which act, and who answers which question."""

    handlers: Mapping[tuple[str, str], Handler]
    askers: Mapping[tuple[str, str], Asker]


def upkeep(
    store: Store,
    backends: ProjectBackends,
    logs: LogStore,
    blobs: BlobStore,
    settings: Settings,
    clock: Clock,
    owner: str,
) -> Upkeep:
    """`owner` is the name of this server."""
    sweeper = Sweeper(store, backends, clock, owner)
    retention = Retention(store.database, logs, blobs, settings, clock)
    return Upkeep(
        {
            ("chore", "sweep_backend"): sweeper.sweep,
            ("chore", "apply_retention"): retention.apply,
            ("orphan", "terminate_machine"): sweeper.terminate,
        },
        {("orphan", "report_orphan"): sweeper.report},
    )
