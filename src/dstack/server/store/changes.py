"""Who waits for what: wakes watchers inside this process when rows they look at have changed, here or elsewhere."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable

REMEMBERED = 20_000
# Each number ends with the mark of its process: one that another server gave means nothing here.
MARKS = 1024


class Changes:
    """Keys are strings such as `run:<id>`. Each publication gives its keys the next sequence number.

    Numbers start at the process's start instant in milliseconds, so that one from an earlier life is always older.
    `tell` hands the keys of what this process published to other servers.
    """

    def __init__(self, start: float, tell: Callable[[list[str]], None] = lambda _: None):
        self._mark = int(start * 1e6) % MARKS
        self._seq = int(start * 1e3) * MARKS + self._mark
        self._start = self._seq
        self._last: OrderedDict[str, int] = OrderedDict()
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._tell = tell
        self.closed = False

    def close(self) -> None:
        """The server stops: nobody waits any more, those who do are answered now."""
        self.closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.set()

    def publish(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.heard(keys)
        self._tell(keys)

    def heard(self, keys: Iterable[str]) -> None:
        """Another server published these."""
        self._seq += MARKS
        for key in keys:
            self._last[key] = self._seq
            self._last.move_to_end(key)
            for waiter in self._waiters.get(key, ()):
                waiter.set()
        while len(self._last) > REMEMBERED:
            # Whoever still knows an older number is told "changed" once too often, never too seldom.
            _, self._start = self._last.popitem(last=False)

    def missed(self) -> None:
        """Nobody knows what others published meanwhile: everybody who waits looks again."""
        self._seq += MARKS
        self._start = self._seq
        self._last.clear()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.set()

    def seq(self, keys: Iterable[str]) -> int:
        """The newest number among the keys."""
        return max((self._last.get(key, self._start) for key in keys), default=self._start)

    async def wait(self, after: int, keys: Iterable[str], timeout_s: float) -> int:
        """The newest number, as soon as one of the keys is newer than `after`, at the latest after `timeout_s`.

        At once, when `after` is not a number of this process.
        """
        keys = list(keys)
        foreign = after % MARKS != self._mark
        if (newest := self.seq(keys)) > after or foreign or timeout_s <= 0 or self.closed:
            return newest
        event = asyncio.Event()
        for key in keys:
            self._waiters.setdefault(key, set()).add(event)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            for key in keys:
                waiters = self._waiters[key]
                waiters.discard(event)
                if not waiters:
                    del self._waiters[key]
        return self.seq(keys)
