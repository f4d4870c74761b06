"""Pulls one task's log from its host into the log store, by offset, until the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dstack.agentapi.client import AgentClient, AgentRefused
from dstack.agentapi.wire import MAX_LOG_CHUNK
from dstack.server.logs.files import LogSize, LogStore
from dstack.server.store.host_links import Hold
from dstack.server.store.trouble import DatabaseUnavailable

log = logging.getLogger(__name__)
WAIT_S = 25.0
RETRY_S = 2.0
PIECE_EVERY_S = 0.05  # each is a commit, and a job that prints fast fills one by then


class LogPull:
    """Stored first, acknowledged (by deleting the task) later: nothing is lost whoever dies."""

    def __init__(
        self, project_id: str, job_id: str, client: AgentClient, logs: LogStore, hold: Hold, pace_s: Callable[[], float]
    ):
        self.task: asyncio.Task[None] | None = None
        self._project_id = project_id
        self._job_id = job_id
        self._client = client
        self._logs = logs
        self._hold = hold
        self._pace_s = pace_s
        self._end = asyncio.Event()
        self._told = ""
        self._have: LogSize | None = None  # who else may store more or less of it is noticed by `append`

    async def run(self) -> None:
        """Ends when the log is final. Raises AgentUnreachable when the host is lost, StaleHold when another has it."""
        while True:
            try:
                if await self._pull():
                    self._end.set()
                    return
                self._told = ""
            except OSError as e:
                # Disk full or gone: the host keeps the log meanwhile.
                self._tell(e.strerror or type(e).__name__)
                await asyncio.sleep(RETRY_S)
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_S)
            except AgentRefused as e:
                if e.status == 404:
                    await self._finish()
                    return
                log.warning("the agent refuses the log of job %s: %s; trying again", self._job_id, e.message)
                await asyncio.sleep(RETRY_S)

    async def drained(self) -> int:
        """Wait for the end of the log; its size in bytes."""
        if self.task is None:
            raise RuntimeError("not started")
        waiter = asyncio.ensure_future(self._end.wait())
        try:
            await asyncio.wait([waiter, self.task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if not self._end.is_set():
            raise TimeoutError  # the link broke meanwhile: asked again over the next one
        return (await self._logs.size(self._job_id, aside=True)).size

    def _tell(self, words: str) -> None:
        """Once for as long as it lasts."""
        if words != self._told:
            log.error("the log of job %s cannot be stored: %s; trying again", self._job_id, words)
        self._told = words

    async def _pull(self) -> bool:
        have = self._have or await self._logs.size(self._job_id, aside=True)
        self._have = None  # asked for again after whatever goes wrong
        if have.final:
            return True
        chunk = await self._client.logs(self._job_id, have.size, max(WAIT_S, self._pace_s()))
        if not chunk.data and not chunk.final:
            self._have = have
            return False
        began = asyncio.get_running_loop().time()
        log = self._project_id, self._job_id
        size = await self._logs.append(*log, have.size, chunk.data, chunk.marks, chunk.final, self._hold)
        self._have = size
        if not size.final and len(chunk.data) < MAX_LOG_CHUNK:
            await asyncio.sleep(began + PIECE_EVERY_S - asyncio.get_running_loop().time())
        return size.final

    async def _finish(self) -> None:
        """The host knows nothing of the task: what is stored is all there will ever be."""
        have = await self._logs.size(self._job_id, aside=True)
        while not have.final:  # once more where it turned out to be shorter than it was
            have = await self._logs.append(self._project_id, self._job_id, have.size, b"", (), True, self._hold)
        self._end.set()
