"""A container's output into the task's log through the engine's API, where the engine's own files cannot be read."""

from __future__ import annotations

import asyncio
import time

from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.docker_logs import FILE_MB, MAX_FILES, LogSink
from dstack.agent.docker_spec import resource_name
from dstack.agent.machine import Task
from dstack.agent.wakeup import Wakeup

AGAIN_S = 0.5


class StreamOutput:
    """One container's, for an ordinary user's agent or an engine in a virtual machine."""

    def __init__(self, docker: DockerClient, task: Task, quota_bytes_per_hour: int):
        self.exceeded = asyncio.Event()  # the quota
        self._docker = docker
        self._task = task
        self._sink = LogSink(task.directory, quota_bytes_per_hour)
        self._ended = False
        self._look = Wakeup()

    @property
    def quota_message(self) -> str:
        return self._sink.quota.message

    def no_more(self) -> None:
        """The container has ended: what is to be read is there."""
        self._ended = True
        self._look.fire()

    async def copy(self) -> None:
        """Runs until `no_more` was called and all was taken, or the quota is used up."""
        try:
            await self._copy()
            self._sink.finish()
        finally:
            self._task.log_lost = self._sink.lost
            self._sink.close()
        self._task.log_grew.fire()

    async def _copy(self) -> None:
        while not self._sink.over_quota:
            ended = self._ended  # asked before the last look, not after it
            try:
                await self._follow()
                complete = True
            except EngineError as e:
                complete = e.status == 404  # gone: nothing more can be had
            except EngineUnreachable:
                complete = False
            if ended and complete:
                return
            if not ended:
                await self._look.wait(AGAIN_S)
        self.exceeded.set()

    async def _follow(self) -> None:
        """Read from the start again and skip what is in the log already: the API knows no exact positions."""
        skip = self._sink.offset
        query = {"follow": "true", "stdout": "true", "stderr": "true"}
        if skip > (MAX_FILES - 1) * FILE_MB * 1024 * 1024:  # the engine may have dropped the start by now
            self._sink.note_gap(time.time())
            query["since"] = str(int(time.time()))
            skip = 0
        path = "/containers/%s/logs" % resource_name(self._task.id)
        async with await self._docker.open("GET", path, query) as exchange:
            async for piece in exchange.pieces():
                fresh = piece[skip:]
                skip = max(0, skip - len(piece))
                if not fresh:
                    continue
                self._sink.write(fresh, time.time())
                self._sink.commit(0, self._sink.offset + len(fresh))
                self._task.log_grew.fire()
                if self._sink.over_quota:
                    return
