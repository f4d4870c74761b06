"""What the composition root builds and hands to routes, engine and effects: no globals anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from dstack.clock import Clock
from dstack.server.auth.cipher import Cipher
from dstack.server.logs.files import LogStore
from dstack.server.meter import Meter
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.offers import OffersService
from dstack.server.settings import Settings
from dstack.server.store.blobs import BlobStore
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.store import Store


class EngineHandle(Protocol):
    def kick(self) -> None:
        """Something became due just now: look at once."""
        ...


@dataclass(frozen=True)
class Parts:
    settings: Settings
    clock: Clock
    database: Database
    store: Store
    engine: EngineHandle
    changes: Changes
    logs: LogStore
    blobs: BlobStore
    cipher: Cipher
    offers: OffersService
    backends: ProjectBackends
    owner: str  # the name under which this server claims work
    meter: Meter = field(default_factory=Meter)
