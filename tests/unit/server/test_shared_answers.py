"""Many who ask at once share an answer, and never one that is older than their question."""

from __future__ import annotations

import asyncio

import pytest

from dstack.server.logs.shared import Shared


class Source:
    """Answers how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.let = asyncio.Event()

    async def __call__(self) -> int:
        self.asked += 1
        mine = self.asked
        await self.let.wait()
        return mine


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_those_who_come_while_one_is_answered_share_the_next_answer():
    shared, source = Shared[int](), Source()
    first = asyncio.create_task(shared.ask("log", source))
    await turns()
    late = [asyncio.create_task(shared.ask("log", source)) for _ in range(200)]
    await turns()
    source.let.set()
    assert await first == 1
    assert set(await asyncio.gather(*late)) == {2}
    assert source.asked == 2
    assert await shared.ask("log", source) == 3


async def test_other_questions_are_not_waited_for():
    shared, stuck, quick = Shared[int](), Source(), Source()
    waiting = asyncio.create_task(shared.ask("one", stuck))
    quick.let.set()
    assert await shared.ask("other", quick) == 1
    stuck.let.set()
    await waiting


async def test_one_who_gives_up_takes_the_answer_from_nobody():
    shared, source = Shared[int](), Source()
    first = asyncio.create_task(shared.ask("log", source))
    await turns()
    second, third = (asyncio.create_task(shared.ask("log", source)) for _ in range(2))
    await turns()
    first.cancel()
    second.cancel()
    await turns()
    source.let.set()
    assert await third == 2


async def test_a_question_that_fails_fails_for_those_who_asked_it_and_the_next_is_asked_anew():
    async def fails() -> int:
        raise OSError("gone")

    shared, source = Shared[int](), Source()
    source.let.set()
    with pytest.raises(OSError, match="gone"):
        await shared.ask("log", fails)
    assert await shared.ask("log", source) == 1
