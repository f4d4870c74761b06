"""Which runtime a task gets: the engine when one answers, else plain processes."""

from __future__ import annotations

from dstack.agent.process import ProcessRuntime
from dstack.agent.runtime import Runtime
from dstack.agent.tasks import Tasks
from dstack.agentapi.wire import PROCESS


class Runtimes:
    """`auto` is what AUTO means on this host (docker | process | auto: look whether an engine answers)."""

    def __init__(self, auto: str, docker_host: str, state: str):
        self._auto = auto
        self._process = ProcessRuntime()

    async def choose(self, name: str) -> Runtime:
        return self._process

    async def default(self) -> str:
        return PROCESS

    async def engine_version(self) -> str:
        return ""

    async def remove_orphans(self, tasks: Tasks) -> None:
        return

    async def close(self) -> None:
        return
