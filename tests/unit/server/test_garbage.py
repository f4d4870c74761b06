"""Full garbage collections in their own time."""

from __future__ import annotations

import asyncio
import gc
import weakref

from dstack.server.garbage import collect_seldom


class Ring:
    def __init__(self):
        self.itself = self


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_what_was_set_aside_and_died_since_is_collected_when_everything_is_looked_at():
    ring = Ring()
    seen = weakref.ref(ring)
    collecting = asyncio.ensure_future(collect_seldom(every_s=0, all_every=6, growth=0.5))
    await turns(3)
    del ring
    await turns(2)
    assert seen() is not None, "it was looked at although it had been set aside"
    await turns(8)
    assert seen() is None
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)


async def test_not_everything_is_looked_at_again_while_little_has_come():
    ring = Ring()
    seen = weakref.ref(ring)
    collecting = asyncio.ensure_future(collect_seldom(every_s=0, all_every=2, growth=2.0))
    await turns(3)
    del ring
    await turns(12)
    assert seen() is not None
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)


async def test_the_collector_is_given_back_as_it_was():
    before = gc.get_threshold()
    collecting = asyncio.ensure_future(collect_seldom())
    await turns(1)
    assert gc.get_threshold() != before
    assert gc.get_freeze_count()
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
