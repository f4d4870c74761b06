"""Which runtime a task gets: the engine when one answers, else plain processes."""

from __future__ import annotations

import logging
from typing import Set

from dstack.agent.docker import DockerRuntime
from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.gpus import Gpus
from dstack.agent.process import ProcessRuntime
from dstack.agent.runtime import Runtime
from dstack.agent.tasks import Tasks
from dstack.agentapi.wire import AUTO, DOCKER, PROCESS

log = logging.getLogger("dstack.agent")

LOOK_S = 2.0


class Runtimes:
    """`auto` is what AUTO means on this host (docker | process | auto: look whether an engine answers)."""

    def __init__(self, auto: str, docker_host: str, state: str, gpus: Gpus):
        self._auto = auto
        self._client = DockerClient(docker_host)
        self._docker = DockerRuntime(self._client, state, gpus)
        self._process = ProcessRuntime(state, gpus)

    @property
    def docker_client(self) -> DockerClient:
        return self._client

    async def choose(self, name: str) -> Runtime:
        """The runtime called `name`; the engine itself need not answer just now."""
        if name in (AUTO, ""):
            name = await self.default()
        return self._docker if name == DOCKER else self._process

    async def default(self) -> str:
        if self._auto != AUTO:
            return self._auto
        return DOCKER if await self._answers() else PROCESS

    async def engine_version(self) -> str:
        """The engine's version; "" when none answers or none is to be used."""
        if self._auto != PROCESS and await self._answers():
            return self._client.version
        return ""

    async def remove_orphans(self, tasks: Tasks) -> None:
        """Remove what tasks left on the engine that are no more; a try, repeated at the next start."""

        def known() -> Set[str]:
            return {task.id for task in tasks.all()}

        if self._auto == PROCESS or not await self._answers():
            return
        try:
            await self._docker.remove_orphans(known)
        except (EngineError, EngineUnreachable) as e:
            log.warning("orphans were not removed: %s", e)

    async def _answers(self) -> bool:
        try:
            await self._client.connect(LOOK_S)
        except EngineUnreachable:
            return False
        return True
