"""A real host under the server's links: a database, the local backend, an agent, and rows as decisions leave them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import select

from dstack.agentapi.client import AgentClient
from dstack.agentapi.wire import ENDED, TaskReport, TaskSpec
from dstack.backends.base import BackendContext, Created, InstanceOrder
from dstack.backends.local.backend import LocalBackend
from dstack.backends.registry import Registry
from dstack.clock import WallClock
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobStatus
from dstack.model.offer import Offer
from dstack.model.row import Row
from dstack.server.auth.cipher import Cipher, load_keys
from dstack.server.auth.node_keys import NodeKeys
from dstack.server.effects.gauges import Gauges
from dstack.server.effects.instances import InstanceEffects
from dstack.server.effects.links import HostLinks
from dstack.server.effects.tasks import TaskEffects
from dstack.server.logs.files import LogStore
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.rows import change_rows, insert_rows
from dstack.server.settings import Settings
from dstack.server.store.blobs import BlobStore
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.store import Store
from dstack.server.store.tables import inbox
from support import builders

PATIENCE_S = 30.0


async def no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


async def no_secrets(_project_id: str, _names: object) -> dict[str, str]:
    return {}


class Host:
    """A machine with an agent. `kicked` counts what the links told to look at once."""

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        database: Database,
        store_class: type[Store] = Store,
        others: tuple[str, ...] = (),
    ):
        self.folder = folder
        self.database = database
        self.store = store_class(database, no_offers)
        self.clock = WallClock()
        self.logs = LogStore(folder / "logs", database, Changes(self.clock.now()))
        self.backend = LocalBackend(folder / "local", lambda: bundle, sys.executable, "process")
        self.instance: Instance = builders.instance(status=InstanceStatus.BUSY, busy_blocks=1, linked=False, host=None)
        self.kicked = {"engine": 0, "acts": 0}
        context = BackendContext(folder / "backends", lambda: bundle, sys.executable, self.clock)
        cipher = Cipher(*load_keys(folder / "key", (), may_create=True))
        own = {"local": self.backend}
        backends = ProjectBackends(database, cipher, self.clock, Registry.installed(), own, context)
        self.machines = InstanceEffects(self.store, backends, self.clock)
        self.own = backends.own
        gauges = Gauges(database, Changes(self.clock.now()))
        kicks = (lambda: self._kick("engine")), (lambda: self._kick("acts"))
        self.links = HostLinks(self.store, "me", self.logs, gauges, self.clock, backends, *kicks, lambda: others)
        settings = Settings(data_dir=folder)
        blobs, keys = BlobStore(folder / "blobs"), NodeKeys(database, cipher)
        self.effects = TaskEffects(self.store, self.links, blobs, no_secrets, settings, node_keys=keys)

    async def create(self) -> None:
        """The machine, its agent, and its row."""
        offer = (await self.backend.offers(None))[0]
        token = self.instance.token
        made = await self.backend.create_instance(InstanceOrder(token, offer, "f-0", "main", "f"))
        assert isinstance(made, Created)
        self.instance = self.instance.replace(offer=offer, data=made.data)
        await self.add(builders.fleet())
        await self.add(self.instance)

    async def add(self, *rows: Row) -> None:
        async with self.database.write() as connection:
            await insert_rows(connection, rows, self.clock.now())

    async def job(self, name: str, **fields: object) -> Job:
        """A job that is placed here, unless fields say otherwise."""
        job = builders.job(name, on=self.instance, **fields)
        await self.add(builders.run(name))
        await self.add(job)
        return job

    @asynccontextmanager
    async def linked(self) -> AsyncIterator[asyncio.Task[None]]:
        """The links run; in the block the host is linked."""
        running = asyncio.ensure_future(self.links.run())
        try:
            await self.until(self.is_linked)
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def is_linked(self) -> bool:
        return any(seen.startswith('{"type":"link_up"') for seen in await self.heard(self.instance.id))

    async def heard(self, resource_id: str) -> list[str]:
        """What lies in the inbox of the resource, as JSON, oldest first."""
        statement = select(inbox.c.observation).where(inbox.c.resource_id == resource_id).order_by(inbox.c.id)
        async with self.database.read() as connection:
            return list((await connection.execute(statement)).scalars())

    async def start(self, task_id: str, script: str) -> TaskReport:
        """Have the agent run a task behind the server's back."""
        spec = TaskSpec(id=task_id, name="t", runtime="process", script=script)
        return await (await self.client()).put_task(spec)

    async def tasks(self) -> dict[str, TaskReport]:
        return {report.id: report for report in await (await self.client()).tasks()}

    async def ended(self, task_id: str) -> bool:
        return (await self.tasks())[task_id].state in ENDED

    async def set_status(self, job: Job, status: JobStatus) -> None:
        async with self.database.write() as connection:
            await change_rows(connection, Job, [job.id], status=status)

    async def client(self) -> AgentClient:
        assert self.instance.data is not None
        return AgentClient(await self.backend.agent_connect(self.instance.token, self.instance.data))

    def kill_agent(self) -> None:
        pid = int((self.folder / "local" / self.instance.token / "agent.pid").read_text())
        os.kill(pid, signal.SIGKILL)

    async def until(self, condition: Callable[[], Awaitable[bool]], deadline_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + deadline_s
        while not await condition():
            assert time.monotonic() < deadline, "it did not come about"
            await asyncio.sleep(0.02)

    def _kick(self, what: str) -> None:
        self.kicked[what] += 1
