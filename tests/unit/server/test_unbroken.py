"""Waiting for a thread at work: however often one is cancelled, the work ends first."""

from __future__ import annotations

import asyncio

import pytest

from dstack.server.store.unbroken import unbroken


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_takes_effect_when_the_work_has_ended(times: int):
    working: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(unbroken(working))
    await turns()
    for _ in range(times):
        waiting.cancel()
        await turns()
        assert not waiting.done() and not working.cancelled()
    working.set_exception(OSError("the disk is full"))
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_without_a_cancellation_the_result_is_that_of_the_work():
    working: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(unbroken(working))
    working.set_result(7)
    assert await waiting == 7
