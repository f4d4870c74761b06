"""The offers of a project: asked of its backends, kept for a short while."""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from dstack.backends.base import Backend
from dstack.backends.errors import BackendError
from dstack.clock import Clock
from dstack.model.offer import Offer
from dstack.server.services.backends import ProjectBackends

log = logging.getLogger(__name__)
FRESH_S = 10.0
DEADLINE_S = 20.0
PATIENCE_S = 1.0  # so long a backend is waited for whose last offers are known
LOCAL = "local"


class OffersService:
    """Offers are kept by backend, so that what belongs to the server is asked once for all projects.

    `server_id`: whose machine the backend `local` is; no other server reaches what is made there.
    """

    def __init__(
        self,
        backends: ProjectBackends,
        clock: Clock,
        server_id: str | None = None,
        patience_s: float = PATIENCE_S,
    ):
        self._backends = backends
        self._clock = clock
        self._server_id = server_id
        self._patience_s = patience_s
        self._cache: WeakKeyDictionary[Backend, tuple[float, tuple[Offer, ...]]] = WeakKeyDictionary()
        self._asking: WeakKeyDictionary[Backend, asyncio.Task[None]] = WeakKeyDictionary()

    async def all(self, project_id: str) -> tuple[Offer, ...]:
        """Every offer of the project's backends, cheapest first. A backend that fails contributes what it last had."""
        backends = await self._backends.of_project(project_id)
        found = await asyncio.gather(*(self._of(backend) for backend in backends.values()))
        return tuple(sorted((o for offers in found for o in offers), key=lambda o: (o.price, o.key)))

    def forget(self) -> None:
        self._cache.clear()

    async def aclose(self) -> None:
        """Nobody waits for answers any more."""
        asking = [*self._asking.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _of(self, backend: Backend) -> tuple[Offer, ...]:
        kept = self._cache.get(backend)
        if kept is not None and self._clock.now() - kept[0] < FRESH_S:
            return kept[1]
        asking = self._asking.get(backend)
        patience_s = self._patience_s if asking is None else 0.0
        if asking is None:
            asking = self._asking[backend] = asyncio.create_task(self._ask(backend))
        # The first answer is waited for. Later on a provider that takes its time holds up nobody's turn for long: what
        # it last had is used, and its answer when it comes.
        await asyncio.wait([asking], timeout=None if kept is None else patience_s)
        return self._cache.get(backend, (0.0, ()))[1]

    async def _ask(self, backend: Backend) -> None:
        _, offers = self._cache.get(backend, (0.0, ()))
        try:
            async with asyncio.timeout(DEADLINE_S):
                offers = tuple(await backend.offers(None))
                if backend.name == LOCAL:
                    offers = tuple(one.model_copy(update={"server_id": self._server_id}) for one in offers)
        except (BackendError, TimeoutError, OSError) as e:
            log.warning("backend %s has no offers now: %s", backend.name, e)
        except Exception as e:
            # A surprise of one provider's library must not stop the decisions of a project; its words may hold keys.
            log.error("asking backend %s for offers failed: %s", backend.name, type(e).__name__)
        finally:
            self._asking.pop(backend, None)
        self._cache[backend] = (self._clock.now(), offers)
