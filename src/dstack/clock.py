"""The only reader of wall time. Everything else is handed a `Clock`, or `now` itself.

Instants are `float` seconds since 1970-01-01 UTC throughout the system; durations are seconds.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """The present instant, in seconds since the epoch (UTC)."""
        ...


class WallClock:
    def now(self) -> float:
        return time.time()
