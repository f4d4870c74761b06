"""A server's engine and acts over a real database and a simulated cloud, on a clock that is set by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from dstack.backends.base import BackendContext, InstanceOrder, Terminated
from dstack.backends.registry import Registry
from dstack.backends.sim.backend import SimBackend
from dstack.control.kernel import Probe
from dstack.model.instance import Instance, ProvisioningData
from dstack.model.observation import Gone
from dstack.model.offer import Offer
from dstack.model.orphan import Orphan, OrphanStatus
from dstack.model.row import Row
from dstack.server.auth.cipher import Cipher
from dstack.server.effects.acts import Done
from dstack.server.effects.upkeep import upkeep
from dstack.server.engine.loop import Dispatch, Engine
from dstack.server.logs.files import LogStore
from dstack.server.services import bootstrap
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.chores import begin_sweep
from dstack.server.services.rows import fetch, insert_rows
from dstack.server.settings import Settings
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.blobs import BlobStore
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.rows import row as stored
from dstack.server.store.store import Store
from dstack.server.store.tables import TABLES, project
from dstack.server.store.tables import backend as backend_t
from support import builders

START = builders.T0
FAR = START * 100
SWEEP_S = 300.0


class SetClock:
    def __init__(self) -> None:
        self.at = START

    def now(self) -> float:
        return self.at


async def _no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


class Yard:
    """One project `main` with a backend `sim` whose jobs are only pretended."""

    def __init__(self, database: Database, folder: Path, settings: Settings | None = None):
        self.clock = SetClock()
        self.database = database
        self.settings = settings or Settings(data_dir=folder)
        self.store = Store(database, _no_offers)
        self.logs = LogStore(folder / "logs", database, Changes(START))
        self.blobs = BlobStore(folder / "blobs")
        self.project_id = ""
        self.asked: list[Probe] = []
        self._cipher = Cipher(os.urandom(32))
        context = BackendContext(folder / "backends", lambda: folder, sys.executable, self.clock)
        self.backends = ProjectBackends(database, self._cipher, self.clock, Registry.installed(), {}, context)
        self.upkeep = upkeep(self.store, self.backends, self.logs, self.blobs, self.settings, self.clock, "me")
        self._handlers = {**self.upkeep.handlers, ("instance", "terminate_instance"): self._terminate}
        self._engine = Engine(self.store, self.clock, "me", Dispatch(lambda: None, self.asked.extend, lambda _: None))

    async def open(self, **sim: Any) -> None:
        """Make the project and its backend; `sim` is the backend's configuration."""
        config = {"type": "sim", "run": "pretend", **sim}
        await bootstrap.ensure(self.database, self._cipher, START, "main")
        async with self.database.write() as connection:
            self.project_id = (await connection.execute(select(project.c.id))).scalar() or ""
            row = {"project_id": self.project_id, "type": "sim", "origin": "api", "updated_at": START}
            await connection.execute(insert(backend_t).values(**row, config=self.backends.seal(config)))
            await begin_sweep(connection, self.project_id, "sim", START)

    async def configure(self, **sim: Any) -> None:
        """Another configuration of the backend; its machines stay."""
        sealed = self.backends.seal({"type": "sim", "run": "pretend", **sim})
        async with self.database.write() as connection:
            await connection.execute(update(backend_t).values(config=sealed))
        self.backends.changed(self.project_id)

    async def cloud(self) -> SimBackend:
        found = await self.backends.find(self.project_id, "sim")
        assert isinstance(found, SimBackend)
        return found

    async def machine(self, token: str) -> ProvisioningData:
        """Have the cloud make a machine, whoever asked for it."""
        cloud = await self.cloud()
        offer = (await cloud.offers(None))[0]
        created = await cloud.create_instance(InstanceOrder(token, offer, "some", "main", "f"))
        return created.data  # type: ignore[union-attr]

    async def machines(self) -> set[str]:
        """Tokens of what really runs."""
        folder = self.settings.data_dir / "backends" / self.project_id / "sim" / "machines"
        return {file.stem for file in folder.glob("[!.]*.json")} if folder.exists() else set()

    async def instance(self, num: int = 0, *, machine: bool = True, **fields: Any) -> Instance:
        """An instance with its machine, made long ago, whose agent is silent just now."""
        fleet = builders.fleet(project_id=self.project_id)
        row = builders.instance(num, of=fleet, project_id=self.project_id, linked=False, idle_duration_s=None)
        if machine:
            row = row.replace(data=await self.machine(row.token))
        row = row.replace(started_at=START - 3600, **fields)
        async with self.database.write() as connection:
            if not await fetch(connection, type(fleet), TABLES["fleet"].c.id == fleet.id):
                await insert_rows(connection, [fleet], FAR)
            await insert_rows(connection, [row], FAR)
        return row

    async def lose(self, row: Instance) -> None:
        """The machine is gone, and nobody told us."""
        await (await self.cloud()).terminate_instance(row.token, None)

    async def forget(self, row: Row) -> None:
        """As in a backup that is older than the row."""
        async with self.database.write() as connection:
            table = TABLES[row.kind]
            await connection.execute(table.delete().where(table.c.id == row.id))

    async def now(self, row: Row) -> Any:
        async with self.database.read() as connection:
            return (await fetch(connection, type(row), TABLES[row.kind].c.id == row.id))[0]

    async def orphans(self) -> list[Orphan]:
        """Those that are not settled."""
        async with self.database.read() as connection:
            return await fetch(connection, Orphan, TABLES["orphan"].c.status != OrphanStatus.SETTLED)

    async def sweep(self, times: int = 1) -> None:
        """So many sweeps, each at its time, and all that follows from them at once."""
        for _ in range(times):
            self.clock.at += SWEEP_S
            await self.settle()

    async def settle(self) -> None:
        """Until nothing is due any more."""
        while await self._engine.turn() or await self._act():
            pass

    async def _terminate(self, act: ClaimedAct) -> Done:
        instance = await stored(self.database, Instance, act.ref.id)
        assert isinstance(await (await self.cloud()).terminate_instance(instance.token, instance.data), Terminated)
        return Done(((act.ref, Gone()),))

    async def _act(self) -> int:
        claimed = await self.store.claim_acts(self.clock.now(), "me", 10, 60.0)
        for one in claimed:
            outcome = await self._handlers[one.ref.kind, one.verb](one)
            now = self.clock.now()
            if isinstance(outcome, Done):
                await self.store.finish_act(one, outcome.seen, now)
            else:
                await self.store.retry_act(one, outcome.seen, now + (outcome.after_s or 1.0), outcome.error, now)
        return len(claimed)
