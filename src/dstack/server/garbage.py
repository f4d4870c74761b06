"""Full garbage collections, seldom: each stops the event loop for as long as it looks at every object there is.

With a thousand jobs that is 0.3 to 0.6 s, and the interpreter's own rule has one every few seconds under load. Nearly
all objects of a server die without the collector, and most others while they are young.
"""

from __future__ import annotations

import asyncio
import gc

YOUNG = 5_000  # objects made between two looks at the youngest
MIDDLE = 10  # such looks between two at those that survived one
NEVER = 1_000_000_000
EVERY_S = 10.0  # what came since the last time is looked at but for the oldest, and set aside
ALL_EVERY = 360  # so many times: everything, as what was set aside may have died since


async def collect_seldom(every_s: float = EVERY_S, all_every: int = ALL_EVERY) -> None:
    """Take the collector of this process over, until cancelled: what survives is not looked at again soon."""
    before = gc.get_threshold()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    times = 0
    try:
        while True:
            if times % all_every == 0:
                gc.unfreeze()
                gc.collect()
            else:
                gc.collect(1)
            gc.freeze()
            times += 1
            await asyncio.sleep(every_s)
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
