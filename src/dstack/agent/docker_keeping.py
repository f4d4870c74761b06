"""The agent's side of a container's keeper: starts it, tells it what to follow and when to end."""

from __future__ import annotations

import asyncio
import os
import time

from dstack.agent import processes
from dstack.agent.companion import Companion
from dstack.agent.docker_keeper import OVER_QUOTA
from dstack.agent.docker_logs import JsonFileTail
from dstack.agent.docker_terminal import seen_by_engine
from dstack.agent.logfile import Quota
from dstack.agent.machine import Task, TaskFailed
from dstack.agent.terminal import open_terminal
from dstack.agentapi.wire import EXECUTOR_ERROR, START_FAILED

ENDING_S = 20.0  # a keeper that was told to end has a log to bring to disk
ENDED_TOO_S = 5.0  # within which the end of a container is told whose keeper has gone with it
MAX_STARTS = 5


class Keeping:
    """That of one task, from before its start until its removal; a later agent's is another one for the same keeper."""

    def __init__(self, task: Task, quota_bytes_per_hour: int, ended_too_s: float = ENDED_TOO_S):
        self.exceeded = asyncio.Event()  # the quota
        self._task = task
        self._quota_bytes_per_hour = quota_bytes_per_hour
        self._ended_too_s = ended_too_s
        self._companion = Companion(task.directory)
        self._starts = 0
        self._told_end = False
        self._no_more = asyncio.Event()

    async def open_terminal(self, engine_url: str) -> str:
        """Start the keeper with a terminal; its name, "" where the engine cannot share it. Raises TaskFailed."""
        await self.finish()  # of a start that was cut off
        self._task.memo["terminal"] = ""
        master, slave = open_terminal()
        try:
            if seen_by_engine(engine_url, slave):
                self._task.memo["terminal"] = os.ttyname(slave)
                self._start(master, slave)
        finally:
            os.close(master)
            os.close(slave)
        return self._terminal

    @property
    def is_needed(self) -> bool:
        """Whether the container's output is to be had this way; else the engine's API gives it."""
        return bool(self._terminal) or JsonFileTail.readable(self._log_path)

    @property
    def quota_message(self) -> str:
        return Quota(self._quota_bytes_per_hour).message

    def no_more(self) -> None:
        """The container has ended: what is to be read is there."""
        self._no_more.set()
        self._give_orders()

    async def copy(self) -> None:
        """Runs until `no_more` was called and all was taken. Raises TaskFailed."""
        while not self._told_end:
            if not self._companion.alive():
                await self._start_again()
            await self._companion.watch(self._look)

    async def finish(self) -> None:
        """End the keeper of a container that is gone. Idempotent. Raises TaskFailed."""
        deadline = time.monotonic() + ENDING_S
        while self._companion.alive():
            if time.monotonic() > deadline:
                raise TaskFailed(EXECUTOR_ERROR, "The process that keeps the job's log cannot be ended")
            self._companion.order(b"end")
            await asyncio.sleep(0.01)  # one that is just starting has not opened its end yet
        self._companion.reap()

    @property
    def _terminal(self) -> str:
        return str(self._task.memo.get("terminal") or "")

    @property
    def _log_path(self) -> str:
        return str(self._task.memo.get("log_path") or "")

    def _look(self) -> None:
        self._give_orders()
        self._task.log_grew.fire()
        if os.path.exists(os.path.join(self._task.directory, OVER_QUOTA)):
            self.exceeded.set()

    def _give_orders(self) -> None:
        """Again at each word of the keeper: an order may have come too early, or to a worker that died since."""
        if JsonFileTail.readable(self._log_path):
            self._companion.order(b"tail " + os.fsencode(self._log_path))
        if self._no_more.is_set() and self._companion.order(b"end"):
            self._told_end = True

    async def _start_again(self) -> None:
        """What the engine recorded is taken from where it was left; a terminal is gone with who held it."""
        trouble = "The process that held the job's terminal %s" % self._companion.trouble
        self._companion.reap()
        if self._terminal and not self._no_more.is_set():
            # A restart of the machine took both; the engine tells of the container's end when it is back.
            restarted = self._task.boot_id != processes.boot_id()
            try:
                await asyncio.wait_for(self._no_more.wait(), None if restarted else self._ended_too_s)
            except asyncio.TimeoutError:
                raise TaskFailed(EXECUTOR_ERROR, trouble) from None
        if self._starts >= MAX_STARTS:
            raise TaskFailed(EXECUTOR_ERROR, trouble)
        self._start()

    def _start(self, *descriptors: int) -> None:
        self._starts += 1
        self._told_end = False
        try:
            self._companion.start("keep", {"log_quota_bytes_per_hour": self._quota_bytes_per_hour}, descriptors)
        except OSError as e:
            raise TaskFailed(START_FAILED, "The keeper of the job's log cannot be started: %s" % e.strerror) from None
