"""Connections to the agents of simulated machines, so that all of them break when a machine is taken away."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from weakref import WeakSet

from dstack.agentapi.client import Connect


class Connections:
    def __init__(self) -> None:
        self._open: defaultdict[str, WeakSet[asyncio.StreamWriter]] = defaultdict(WeakSet)
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    def watched(self, token: str, connect: Connect, answers: Callable[[], bool]) -> Connect:
        """`connect`, refused while `answers` is False, and cut by `cut`."""

        async def watched() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            if not answers():
                raise ConnectionRefusedError("the machine does not answer")
            reader, writer = await connect()
            self._open[token].add(writer)
            return reader, writer

        return watched

    def cut_after(self, token: str, delay_s: float) -> None:
        """Break what is connected then."""
        if token not in self._alarms:
            loop = asyncio.get_running_loop()
            self._alarms[token] = loop.call_later(max(0.0, delay_s), self.cut, token)

    def cut(self, token: str) -> None:
        if alarm := self._alarms.pop(token, None):
            alarm.cancel()
        for writer in self._open.pop(token, ()):
            writer.transport.abort()
