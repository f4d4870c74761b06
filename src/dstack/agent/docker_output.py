"""Copies a container's output into the task's log while it runs, and the rest after its end."""

from __future__ import annotations

import asyncio
import time

from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.docker_logs import FILE_MB, MAX_FILES, JsonFileTail, LogSink
from dstack.agent.docker_spec import resource_name
from dstack.agent.machine import Task
from dstack.agent.wakeup import Wakeup

# A file tells nobody that it has grown, and inotify is not in the standard library: the tail looks often while somebody
# waits for the log (less so when the job has been quiet), seldom otherwise (the quota must be enforced all the same).
LOOK_S = 0.01
LOOK_QUIET_S = 0.04
QUIET_LOOKS = 100
LOOK_SELDOM_S = 0.25
AGAIN_S = 0.5


class Output:
    """One container's output. `copy` runs until `no_more` was called and all was taken, or the quota is used up."""

    def __init__(self, docker: DockerClient, task: Task, quota_bytes_per_hour: int, log_path: str):
        self._docker = docker
        self._task = task
        self._sink = LogSink(task.directory, quota_bytes_per_hour)
        self._log_path = log_path
        self._ended = False
        self._look = Wakeup()
        self._quiet = 0  # looks in a row that found nothing

    @property
    def over_quota(self) -> bool:
        return self._sink.over_quota

    @property
    def quota_message(self) -> str:
        return self._sink.quota.message

    def no_more(self) -> None:
        """The container has ended: what is to be read is there."""
        self._ended = True
        self._look.fire()

    async def copy(self) -> None:
        if JsonFileTail.readable(self._log_path):
            await self._copy_file()
        else:
            await self._copy_stream()
        self._sink.finish()
        self._task.log_grew.fire()

    def close(self) -> None:
        self._sink.close()

    async def _copy_file(self) -> None:
        tail = JsonFileTail(self._log_path, self._sink)
        try:
            while not self.over_quota:
                ended = self._ended  # asked before the last look, not after it
                if tail.step():
                    self._quiet = 0
                    self._task.log_grew.fire()
                    await asyncio.sleep(0)
                elif ended:
                    return
                else:
                    await self._pause()
        finally:
            tail.close()

    async def _pause(self) -> None:
        self._quiet += 1
        if self._task.log_grew.awaited:
            await self._look.wait(LOOK_S if self._quiet < QUIET_LOOKS else LOOK_QUIET_S)
            return
        looking = asyncio.ensure_future(self._look.wait(LOOK_SELDOM_S))
        wanted = asyncio.ensure_future(self._task.log_wanted.wait(LOOK_SELDOM_S))
        try:
            await asyncio.wait([looking, wanted], return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
            wanted.cancel()
            await asyncio.gather(looking, wanted, return_exceptions=True)

    async def _copy_stream(self) -> None:
        """Through the engine's API, for engines whose files cannot be read (an ordinary user, a virtual machine)."""
        while not self.over_quota:
            ended = self._ended
            try:
                await self._follow_stream()
                complete = True
            except EngineError as e:
                complete = e.status == 404  # gone: nothing more can be had
            except EngineUnreachable:
                complete = False
            if ended and complete:
                return
            if not ended:
                await self._look.wait(AGAIN_S)

    async def _follow_stream(self) -> None:
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
                if self.over_quota:
                    return
