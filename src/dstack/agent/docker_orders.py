"""What the engine was asked to make: it goes on with it when nobody waits for the answer any more.

What is removed before it is there would stay for ever, so whoever removes waits for what was ordered first.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict


class Orders:
    """At most one at a time for each key."""

    def __init__(self) -> None:
        self._begun: Dict[str, "asyncio.Future[Any]"] = {}

    async def carry_out(self, key: str, make: Callable[[], Awaitable[Any]]) -> None:
        """Whoever is cancelled meanwhile only stops waiting. Raises what `make` raises."""
        await self.over(key)
        begun = self._begun[key] = asyncio.ensure_future(make())
        begun.add_done_callback(lambda done: self._done(key, done))
        await asyncio.shield(begun)

    async def over(self, key: str) -> None:
        """Wait until nothing is being made under the key."""
        while key in self._begun:
            await asyncio.wait([self._begun[key]])

    def _done(self, key: str, done: "asyncio.Future[Any]") -> None:
        del self._begun[key]
        if not done.cancelled():
            done.exception()  # looked at, so that nobody complains when the one who waited is gone
