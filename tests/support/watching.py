"""What must hold over a real database and a simulated cloud, looked at after every commit."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.backends.sim.machines import Machine
from dstack.control import invariants
from dstack.model.row import Ref, Row
from dstack.model.run import Run
from dstack.server.store.codec import decode
from dstack.server.store.database import Database
from dstack.server.store.tables import ROW_TYPES, TABLES, act, inbox
from support.virtual_time import VirtualLoop, virtual_loop

# However often servers die: a new life reads at once what lies there.
HEARD_WITHIN_S = 240.0
SLACK_S = 600.0  # stories are short
LASTING = ("queue", "chore", "orphan")  # kinds that go on for ever
CLOCK = """
    CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
        SELECT coalesce(to_timestamp(nullif(current_setting('virtual.now', true), '')::float8),
                        pg_catalog.clock_timestamp())
    $$
"""


class VirtualDatabase(Database):
    """Time stands still while it works; PostgreSQL's own clock is the loop's, see `set_clock`."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        with virtual_loop().at_work():
            async with super().read() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        loop = virtual_loop()
        with loop.at_work():
            async with super().write() as connection:
                if not self.sqlite:
                    await tell_time(connection)
                yield connection


async def tell_time(connection: AsyncConnection) -> None:
    """PostgreSQL's clock is the loop's until the end of the transaction."""
    now = {"now": repr(virtual_loop().now())}
    await connection.execute(text("SELECT set_config('virtual.now', :now, true)"), now)


async def set_clock(url: str) -> None:
    """Let the PostgreSQL database of that URL measure leases in virtual time."""
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(CLOCK)
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    finally:
        await connection.close()


class Watch:
    """`broken` is what did not hold at the first look that found anything; `cloud` the folder of the backend `sim`."""

    def __init__(self, loop: VirtualLoop, url: str, cloud: Path):
        self.broken: list[str] = []
        self.looks = 0
        self.database = VirtualDatabase(url)
        self._loop = loop
        self._cloud = cloud
        self._ended: dict[Ref, str] = {}
        self._starts: dict[str, set[tuple[str, float]]] = defaultdict(set)

    async def look(self) -> None:
        if self.broken:
            return
        self.looks += 1
        # Looks of two servers overlap, and whoever began first may read the older rows and be done last.
        ended = dict(self._ended)
        machines, tasks = self.machines(), self.tasks()
        view = await self._view()
        # What ended while the database was being read is no witness.
        machines, tasks = machines & self.machines(), {k: v for k, v in tasks.items() if self.tasks().get(k) == v}
        found = invariants.broken(
            invariants.View(
                **view,
                machines=machines,
                tasks=tasks,
                heard_within_s=HEARD_WITHIN_S,
                slack_s=SLACK_S,
                ended=ended,
            )
        )
        self._ended |= {row.ref: str(row.status) for row in view["rows"] if row.terminal}
        found += [f"job {j} was started {len(at)} times: {sorted(at)}" for j, at in self._starts.items() if len(at) > 1]
        self.broken = self.broken or found

    async def rows(self) -> list[Row]:
        async with self.database.read() as connection:
            return [row for kind in ROW_TYPES for row, _ in await self._of_kind(connection, kind)]

    async def left(self) -> list[str]:
        """What is not over, in words; empty when all is."""
        rows = await self.rows()
        left = [
            f"{r.kind} {getattr(r, 'name', r.id)} {r.status}" for r in rows if not r.terminal and r.kind not in LASTING
        ]
        async with self.database.read() as connection:
            acts = await connection.execute(select(act.c.kind, act.c.verb, act.c.last_error))
            left += [f"act {one.verb} ({one.last_error})" for one in acts if one.kind not in LASTING]
        return left + [f"machine {token}" for token in self.machines()]

    async def runs(self) -> list[Run]:
        return [row for row in await self.rows() if isinstance(row, Run)]

    def machines(self) -> set[str]:
        """Tokens of those that cost money now."""
        now = self._loop.now()
        return {m.token for m in self._machines() if not m.taken(now) and (m.gone_at is None or now < m.gone_at)}

    def tasks(self) -> dict[str, str]:
        """Jobs that run now, with the token of their machine."""
        now, running = self._loop.now(), {}
        for token in self.machines():
            file = self._cloud / "agents" / token / "tasks.json"
            for task in json.loads(file.read_text()) if file.exists() else ():
                if task["started_at"] is not None:
                    self._starts[task["id"]].add((token, task["started_at"]))
                if task["state"] == "running" and (task["ends_at"] is None or task["ends_at"] > now):
                    running[task["id"]] = token
        return running

    def _machines(self) -> list[Machine]:
        folder = self._cloud / "machines"
        return [Machine(**json.loads(file.read_text())) for file in sorted(folder.glob("[!.]*.json"))]

    async def _view(self) -> dict[str, Any]:
        rows: list[Row] = []
        due: dict[Ref, float | None] = {}
        async with self.database.read() as connection:
            for kind in ROW_TYPES:
                for row, due_at in await self._of_kind(connection, kind):
                    rows.append(row)
                    due[row.ref] = due_at
            acts = await connection.execute(select(act.c.kind, act.c.resource_id, act.c.verb))
            pending = Counter((Ref(one.kind, one.resource_id), one.verb) for one in acts)
            oldest = select(inbox.c.kind, inbox.c.resource_id, func.min(inbox.c.at).label("at"))
            found = await connection.execute(oldest.group_by(inbox.c.kind, inbox.c.resource_id))
            living = {row.ref for row in rows if not row.terminal}
            unread = {ref: one.at for one in found if (ref := Ref(one.kind, one.resource_id)) in living}
        return {"now": self._loop.now(), "rows": rows, "due": due, "acts": pending, "unread": unread}

    async def _of_kind(self, connection: AsyncConnection, kind: str) -> list[tuple[Row, float | None]]:
        found = await connection.execute(select(TABLES[kind]))
        return [(decode(ROW_TYPES[kind], m), m["due_at"]) for m in found.mappings()]
