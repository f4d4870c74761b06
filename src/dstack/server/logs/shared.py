"""Questions that many ask at once are asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Whoever asks while somebody is being answered shares the next answer with all who come meanwhile.

    The next, not that one: it may have been found before what the asker has just heard of. Hundreds who follow one log
    are woken at once; without this each would have a question to the database and a thread of its own.
    """

    def __init__(self) -> None:
        self._now: dict[Hashable, asyncio.Task[T]] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        """The answer of a question that begins after this call. Raises what it raises."""
        answer = self._next.get(key)
        if answer is None:
            before = self._now.get(key)
            answer = asyncio.ensure_future(self._answer(key, question, before))
            (self._now if before is None else self._next)[key] = answer
        return await asyncio.shield(answer)

    async def _answer(self, key: Hashable, question: Callable[[], Awaitable[T]], before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait([before])
            self._now[key] = self._next.pop(key)
        try:
            return await question()
        finally:
            del self._now[key]
