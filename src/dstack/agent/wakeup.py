"""Waiting for "something changed" without polling, on one event loop."""

from __future__ import annotations

import asyncio


class Wakeup:
    """`fire` wakes everyone who waits at that moment.

    A caller checks its condition, then waits, with no `await` in between: on one loop nothing can be missed.
    """

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future] = set()

    def fire(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def wait(self, timeout_s: float) -> bool:
        """True when it was fired, False after `timeout_s` seconds."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            # Not `wait_for`: up to Python 3.11 that one loses a cancellation which comes together with the result.
            await asyncio.wait([future], timeout=timeout_s)
            return future.done()
        finally:
            self._waiting.discard(future)
            future.cancel()
