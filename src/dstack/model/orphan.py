"""Orphans: machines under our tag that no living instance answers for."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from dstack.model.instance import ProvisioningData
from dstack.model.row import Row, table


class OrphanStatus(StrEnum):
    QUARANTINED = "quarantined"  # left alone until a person decides
    TERMINATING = "terminating"
    SETTLED = "settled"


class OrphanOrigin(StrEnum):
    UNKNOWN = "unknown"  # no row tells of it: made by another server, or after the backup that was restored
    ENDED = "ended"  # its instance is terminated: it is ours and nobody wants it
    ABANDONED = "abandoned"  # a person closed its instance though it was not verified gone


class Orphan(Row):
    """`project_id` is that of the project whose backend lists it, empty for a backend of the server."""

    kind: ClassVar[str] = "orphan"
    transitions: ClassVar[dict[str, frozenset[str]]] = table(
        {
            OrphanStatus.QUARANTINED: {OrphanStatus.TERMINATING, OrphanStatus.SETTLED},
            OrphanStatus.TERMINATING: {OrphanStatus.SETTLED},
            OrphanStatus.SETTLED: set(),
        }
    )

    status: OrphanStatus = OrphanStatus.QUARANTINED
    origin: OrphanOrigin
    backend: str
    token: str  # by which the backend knows it
    backend_id: str
    first_seen: float
    machine_created_at: float | None = None
    data: ProvisioningData | None = None
    instance_id: str | None = None
    instance_name: str | None = None
    unlisted_at: float | None = None  # two sweeps did not find it any more
    # Intents, written by routes.
    terminate_requested_at: float | None = None
    settle_requested_at: float | None = None
    # Outcome.
    settled_at: float | None = None
    outcome: str | None = None

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.backend} machine {self.backend_id}"
