"""Virtual time: what happens next, in one order for one seed."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class VirtualClock:
    """`at(t, call, ...)` plans; `step()` moves to the next plan and carries it out. Equal instants keep their order."""

    def __init__(self, start: float):
        self._now = start
        self._plans: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def now(self) -> float:
        return self._now

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        self._serial += 1
        heapq.heappush(self._plans, (max(when, self._now), self._serial, call, args))

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.at(self._now + seconds, call, *args)

    def next_at(self) -> float | None:
        return self._plans[0][0] if self._plans else None

    def advance(self, to: float) -> None:
        self._now = max(self._now, to)

    def step(self) -> None:
        when, _, call, args = heapq.heappop(self._plans)
        self.advance(when)
        call(*args)
