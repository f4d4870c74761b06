"""Host links: one long poll a host brings every task's changes; logs are pulled, stored and only then acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from sqlalchemy import select

from dstack.agentapi.client import AgentClient, AgentUnreachable, Connect
from dstack.agentapi.wire import TaskReport
from dstack.backends.base import HostsAgent
from dstack.backends.errors import BackendError
from dstack.clock import Clock
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job
from dstack.model.row import Ref
from dstack.server.effects.gauges import Gauges
from dstack.server.effects.host_link import HostLink
from dstack.server.logs.files import LogStore
from dstack.server.services.backends import ProjectBackends
from dstack.server.store.codec import decode
from dstack.server.store.store import Store
from dstack.server.store.tables import TABLES

log = logging.getLogger(__name__)
RETRY_S = 1.0


class HostLinks:
    """Keeps a link to every instance that has a machine, and closes those of machines that are gone."""

    def __init__(
        self,
        store: Store,
        logs: LogStore,
        gauges: Gauges,
        clock: Clock,
        backends: ProjectBackends,
        kick_engine: Callable[[], None],
        kick_acts: Callable[[], None],
    ):
        self._store = store
        self._logs = logs
        self._gauges = gauges
        self._clock = clock
        self._backends = backends
        self._kick_engine = kick_engine
        self._kick_acts = kick_acts
        self._links: dict[str, tuple[HostLink, asyncio.Task[None]]] = {}
        self._noticed: set[str] = set()
        self._news = asyncio.Event()

    def notice(self, refs: Iterable[Ref]) -> None:
        """Rows were committed: instances among them may need a link, or none any more."""
        ids = {ref.id for ref in refs if ref.kind == "instance"}
        if ids:
            self._noticed |= ids
            self._news.set()

    async def run(self) -> None:
        """Keep the links until cancelled."""
        async with asyncio.TaskGroup() as group:
            noticed: set[str] | None = None  # all
            while True:
                try:
                    await self._update(group, noticed)
                except Exception:
                    log.exception("host links could not be updated; trying again")
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._news.wait()
                self._news.clear()
                noticed, self._noticed = self._noticed, set()

    def client(self, instance_id: str) -> AgentClient:
        """The agent of a linked instance. Raises AgentUnreachable while there is no link."""
        entry = self._links.get(instance_id)
        if entry is None or entry[0].client is None:
            raise AgentUnreachable("not connected")
        return entry[0].client

    def follow(self, instance_id: str, report: TaskReport) -> None:
        """A task was seen outside the long poll: store its log from now on."""
        if entry := self._links.get(instance_id):
            entry[0].follow(report)

    def forget(self, instance_id: str, job_id: str) -> None:
        if entry := self._links.get(instance_id):
            entry[0].forget(job_id)

    async def drain(self, instance_id: str, job: Job, timeout_s: float) -> int:
        """Wait until the job's log is stored to its end; its size in bytes.

        Raises AgentUnreachable, TimeoutError, or OSError when the log cannot be stored.
        """
        entry = self._links.get(instance_id)
        if entry is None:
            raise AgentUnreachable("not connected")
        async with asyncio.timeout(timeout_s):
            return await entry[0].drain(job)

    async def _update(self, group: asyncio.TaskGroup, ids: set[str] | None) -> None:
        for instance in await self._instances(ids):
            wanted = instance.data is not None and instance.status is not InstanceStatus.TERMINATED
            if wanted and instance.id not in self._links:
                self._open(group, instance)
            elif not wanted and instance.id in self._links:
                self._links.pop(instance.id)[1].cancel()

    def _open(self, group: asyncio.TaskGroup, instance: Instance) -> None:
        kicks = self._kick_engine, self._kick_acts
        link = HostLink(instance, self._connect, self._store, self._logs, self._gauges, self._clock, *kicks)
        self._links[instance.id] = (link, group.create_task(link.run()))

    async def _connect(self, instance: Instance) -> Connect:
        """How to reach the host. Raises AgentUnreachable."""
        backend = await self._backends.find(instance.project_id, instance.offer.backend)
        if instance.data is None or not isinstance(backend, HostsAgent):
            raise AgentUnreachable(f"backend {instance.offer.backend} is not configured on this server")
        try:
            return await backend.agent_connect(instance.token, instance.data)
        except (BackendError, OSError) as e:
            raise AgentUnreachable(str(e)) from e

    async def _instances(self, ids: set[str] | None) -> list[Instance]:
        table = TABLES["instance"]
        some = table.c.status != InstanceStatus.TERMINATED if ids is None else table.c.id.in_(ids)
        async with self._store.database.read() as connection:
            found = await connection.execute(select(table).where(some))
            return [decode(Instance, m) for m in found.mappings()]
