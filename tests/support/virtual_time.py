"""An event loop whose time is virtual: it stands still while something works and leaps when everybody only waits.

Whoever waits with asyncio (`sleep`, `timeout`, `call_later`) waits in virtual time. What is really done meanwhile, by
threads, by a database, over sockets within this process, is waited for in real time, during which the clock stands.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
START = 1_800_000_000.0
BUSY_S = 0.25  # so long, really, before what is busy counts as waiting for time to pass (a lock that a sleeper holds)
# With sockets to other processes (connecting to a database, NOTIFY), time leaps only so far for each look at them: what
# is allowed to take ten seconds then has a tenth of one, really.
NEWS_S, LEAP_S = 0.002, 0.2
STUCK_S = 60.0  # really, with nothing that could ever happen


class VirtualLoop(asyncio.SelectorEventLoop):
    """`outside`: other processes are spoken to over sockets."""

    def __init__(self, outside: bool = False):
        self.virtual_s = 0.0
        self.busy = 0
        self.outside = outside
        super().__init__(_Leaping(self))

    def time(self) -> float:
        return self.virtual_s

    def now(self) -> float:
        """The instant, as a `Clock` tells it: seconds since the epoch."""
        return START + self.virtual_s

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Time stands still."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self.busy += 1
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _: object) -> None:
        self.busy -= 1

    async def shutdown_default_executor(self, *_: Any) -> None:
        executor = getattr(self, "_default_executor", None)
        if executor is not None:
            executor.shutdown(wait=True)


class _Leaping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop):
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            ready = super().select(STUCK_S)
            if not ready:
                raise RuntimeError("nothing is planned and nothing comes: the loop would wait for ever")
            return ready
        patience = BUSY_S if self._loop.busy else NEWS_S if self._loop.outside else 0.0
        ready = super().select(patience) if patience else []
        if not ready:
            self._loop.virtual_s += min(timeout, LEAP_S) if self._loop.outside else timeout
        return ready


class VirtualClock:
    """The clock of one server of a virtual loop; `ahead_s`: it is set wrong by so much."""

    def __init__(self, loop: VirtualLoop, ahead_s: float = 0.0):
        self._loop = loop
        self._ahead_s = ahead_s

    def now(self) -> float:
        return self._loop.now() + self._ahead_s


def in_virtual_time(play: Coroutine[Any, Any, T], *, outside: bool = False) -> T:
    """What `play` answers, played in a loop of its own."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(outside)) as runner:
        return runner.run(play)


def virtual_loop() -> VirtualLoop:
    """The running one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
