"""The agent's side of a container's keeper: starts it, tells it what to follow and when to end."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from dstack.agent import docker_handing, docker_logs, processes
from dstack.agent.companion import Companion
from dstack.agent.docker_keeper import OVER_QUOTA
from dstack.agent.docker_logs import CUT, WHOLE, JsonFileTail
from dstack.agent.docker_terminal import seen_by_engine
from dstack.agent.logfile import Quota
from dstack.agent.machine import MACHINE_RESTARTED, Task, TaskFailed
from dstack.agent.terminal import open_named, open_terminal
from dstack.agentapi.wire import EXECUTOR_ERROR, START_FAILED

log = logging.getLogger("dstack.agent")

ENDING_S = 20.0  # a keeper that was told to end has a log to bring to disk
ENDED_TOO_S = 5.0  # within which the end of a container is told whose keeper has gone with it
MAX_STARTS = 5  # in a row
WORKED_S = 60.0  # one that lived so long did not die of what it found at its start


class Keeping:
    """That of one task, from before its start until its removal; a later agent's is another one for the same keeper."""

    def __init__(self, task: Task, quota_bytes_per_hour: int, ended_too_s: float = ENDED_TOO_S):
        self.exceeded = asyncio.Event()  # the quota
        self._task = task
        self._quota_bytes_per_hour = quota_bytes_per_hour
        self._ended_too_s = ended_too_s
        self._companion = Companion(task.directory)
        self._master = -1  # of the job's terminal: while the agent has it, too, it outlives all of its keepers
        self._starts = 0
        self._started = 0.0  # monotonic
        self._told_end = False
        self._no_more = asyncio.Event()

    async def open_terminal(self, engine_url: str) -> str:
        """Start the keeper with a terminal; its name, "" where the engine cannot share it. Raises TaskFailed."""
        await self.do_without_terminal()  # of a start that was cut off
        master, slave = open_terminal()
        try:
            if seen_by_engine(engine_url, slave):
                self._task.memo["terminal"] = os.ttyname(slave)
                self._master = os.dup(master)
                self._start()
        finally:
            os.close(master)
            os.close(slave)
        return self._terminal

    async def do_without_terminal(self) -> None:
        """No job prints to it, or ever will: whoever holds it ends. Raises TaskFailed."""
        await self.finish()
        docker_logs.set_flags(self._task.directory, 0)  # of that keeper, which had nothing to take
        self._task.memo["terminal"] = ""

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
        taking = asyncio.ensure_future(self._take_terminal())
        try:
            while not self._took_all():
                if not self._companion.alive():
                    await self._start_again()
                await self._companion.watch(self._look)
            self._companion.reap()
        finally:
            taking.cancel()
            await asyncio.wait([taking])
            self._task.log_lost, flags = docker_logs.end_of(self._task.directory) or (0, 0)
            if flags & CUT:
                self._task.log_cut = MACHINE_RESTARTED if self._rebooted else "the processes that kept it were killed"
        self._close_master()

    async def finish(self) -> None:
        """End the keeper of a container that is gone. Idempotent. Raises TaskFailed."""
        deadline = time.monotonic() + ENDING_S
        while self._companion.alive():
            if time.monotonic() > deadline:
                raise TaskFailed(EXECUTOR_ERROR, "The process that keeps the job's log cannot be ended")
            self._companion.order(b"end")
            await asyncio.sleep(0.01)  # one that is just starting has not opened its end yet
        self._companion.reap()
        self._close_master()

    @property
    def _terminal(self) -> str:
        return str(self._task.memo.get("terminal") or "")

    @property
    def _rebooted(self) -> bool:
        return self._task.boot_id != processes.boot_id()

    @property
    def _log_path(self) -> str:
        return str(self._task.memo.get("log_path") or "")

    def _took_all(self) -> bool:
        """As the keeper wrote down: one that was killed after it was told to end has not. Older ones wrote nothing."""
        end = docker_logs.end_of(self._task.directory)
        return self._told_end if end is None else bool(end[1] & WHOLE)

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

    async def _take_terminal(self) -> None:
        """From the keeper, to which another agent gave it."""
        if not self._terminal or self._master >= 0:
            return
        try:
            self._master = await docker_handing.ask(self._task.directory, self._terminal, self._companion.order)
        except OSError as e:
            log.error("task %s: its terminal cannot be had from its keeper: %s", self._task.id, e)

    async def _start_again(self) -> None:
        """It goes on with the same terminal, and where it left what the engine recorded. Raises TaskFailed."""
        trouble = "The process that held the job's terminal %s" % self._companion.trouble
        self._companion.reap()
        if self._rebooted or (self._terminal and self._master < 0):
            self._note_cut()  # before anything else: who comes after us would not know
        if self._terminal and self._master < 0:
            await self._ended_too(trouble)
        if time.monotonic() - self._started > WORKED_S:
            self._starts = 0
        if self._starts >= MAX_STARTS:
            self._note_cut()
            raise TaskFailed(EXECUTOR_ERROR, trouble)
        self._start()

    async def _ended_too(self, trouble: str) -> None:
        """The keepers went while no agent had the terminal, and it went with them. Raises TaskFailed for a job that
        runs on."""
        try:
            # After a restart of the machine the engine tells of the container's end when it is back.
            await asyncio.wait_for(self._no_more.wait(), None if self._rebooted else self._ended_too_s)
        except asyncio.TimeoutError:
            raise TaskFailed(EXECUTOR_ERROR, trouble) from None

    def _note_cut(self) -> None:
        docker_logs.set_flags(self._task.directory, CUT)

    def _start(self) -> None:
        self._starts += 1
        self._started = time.monotonic()
        self._told_end = False
        descriptors = []
        try:
            if self._master >= 0:
                descriptors = [self._master, open_named(self._terminal)]
            self._companion.start("keep", {"log_quota_bytes_per_hour": self._quota_bytes_per_hour}, descriptors)
        except OSError as e:
            raise TaskFailed(START_FAILED, "The keeper of the job's log cannot be started: %s" % e.strerror) from None
        finally:
            for slave in descriptors[1:]:
                os.close(slave)

    def _close_master(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
