"""A database that is slow rather than gone: what is waited for is told once it takes long, and once that is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
SLOW_S = 3.0  # so long may a step take that nobody needs to hear of
QUIET_S = 30.0  # a step that is slow within so long of the last one belongs to the same trouble


class Slowness:
    """Of one database. `words` is None while all is well."""

    def __init__(self) -> None:
        self._late: dict[object, tuple[str, float]] = {}  # what is waited for now, since when
        self._since: float | None = None  # when the first slow step of this trouble began
        self._last = 0.0  # when the last one ended

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """For the time in which `what` (as in "... for 5 s") holds up whoever is inside."""
        loop, key = asyncio.get_running_loop(), object()
        timer = loop.call_later(SLOW_S, self._is_late, key, what, loop.time())
        try:
            yield
        finally:
            timer.cancel()
            if self._late.pop(key, None) is not None:
                self._last = loop.time()
            else:
                self._was_quick(loop.time())

    def waited_s(self) -> float:
        """How long the longest of those that wait now has waited; 0 when nobody waits for long."""
        now = asyncio.get_running_loop().time()
        return max((now - began for _, began in self._late.values()), default=0.0)

    @property
    def words(self) -> str | None:
        """For people."""
        if self._late:
            what, began = min(self._late.values(), key=lambda one: one[1])
            return f"the database is slow: {what} for {asyncio.get_running_loop().time() - began:.0f} s"
        ago = asyncio.get_running_loop().time() - self._last
        return f"the database was slow {ago:.0f} s ago" if self._since is not None and ago < QUIET_S else None

    def _is_late(self, key: object, what: str, began: float) -> None:
        self._late[key] = (what, began)
        if self._since is None:
            self._since = began
            log.warning("the database is slow: %s for %.0f s; requests and work wait for it", what, SLOW_S)

    def _was_quick(self, now: float) -> None:
        if self._since is not None and not self._late and now - self._last >= QUIET_S:
            log.warning("the database is no longer slow; it was for %.0f s", self._last - self._since)
            self._since = None
