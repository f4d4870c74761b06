"""The offers of a project: asked of its backends, kept for a short while, refreshed in the background of a turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from dstack.backends.base import Backend
from dstack.backends.errors import BackendError
from dstack.clock import Clock
from dstack.model.offer import Offer

log = logging.getLogger(__name__)
FRESH_S = 10.0
DEADLINE_S = 20.0


class OffersService:
    """All projects share the backends of the server for now; a project's own come with cloud credentials."""

    def __init__(self, backends: Mapping[str, Backend], clock: Clock):
        self._backends = backends
        self._clock = clock
        self._cache: dict[str, tuple[float, tuple[Offer, ...]]] = {}

    async def all(self, project_id: str) -> tuple[Offer, ...]:
        """Every offer of the project's backends, cheapest first. A backend that fails contributes what it last had."""
        found = await asyncio.gather(*(self._of(name) for name in self._backends))
        return tuple(sorted((o for offers in found for o in offers), key=lambda o: (o.price, o.key)))

    def forget(self) -> None:
        self._cache.clear()

    async def _of(self, name: str) -> tuple[Offer, ...]:
        at, offers = self._cache.get(name, (0.0, ()))
        if self._clock.now() - at < FRESH_S:
            return offers
        try:
            async with asyncio.timeout(DEADLINE_S):
                offers = tuple(await self._backends[name].offers(None))
        except (BackendError, TimeoutError, OSError) as e:
            log.warning("backend %s has no offers now: %s", name, e)
        self._cache[name] = (self._clock.now(), offers)
        return offers
