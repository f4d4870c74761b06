"""Full garbage collections, seldom: each stops the event loop for as long as it looks at every object there is.

With a thousand jobs that is 0.3 to 0.6 s, and the interpreter's own rule has one every few seconds under load. Nearly
all objects of a server die without the collector, and most others while they are young.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

YOUNG = 2_000  # objects made between two looks at the youngest
MIDDLE = 4  # such looks between two at those that survived one, which takes some 20 ms then
NEVER = 1_000_000_000
EVERY_S = 10.0  # what came since the last time is looked at but for the oldest, and set aside
ALL_EVERY = 360  # so many times: everything may be looked at, as what was set aside may have died since
GROWTH = 1.25  # but only if there is so much more than after the last time: with 10,000 jobs it takes seconds


async def collect_seldom(every_s: float = EVERY_S, all_every: int = ALL_EVERY, growth: float = GROWTH) -> None:
    """Take the collector of this process over, until cancelled: what survives is not looked at again soon."""
    before = gc.get_threshold()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    times = survivors = 0
    try:
        while True:
            if times % all_every == 0 and gc.get_freeze_count() >= survivors * growth:
                gc.unfreeze()
                gc.collect()
                gc.freeze()
                survivors = gc.get_freeze_count()
            else:
                gc.collect(1)
                gc.freeze()
            times += 1
            await asyncio.sleep(every_s)
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@asynccontextmanager
async def collecting() -> AsyncIterator[None]:
    """Collect so in the block."""
    task = asyncio.ensure_future(collect_seldom())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
