"""Worse stores: each has one bug of a family that the stories must find. Each is made for the folder of a cloud."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select, text

from dstack.backends.sim.machines import Machine, Machines
from dstack.backends.sim.misfortune import write_json
from dstack.control.kernel import Decision, Turn
from dstack.model.instance import Instance
from dstack.model.row import Ref
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.claims import Claim
from dstack.server.store.commit import Committed
from dstack.server.store.store import Store
from dstack.server.store.tables import TABLES

PROVIDERS_S = 5.0  # is how long a provider takes to make a machine


def acts_before_commit(cloud: Path) -> type[Store]:
    """The machine is made first and recorded after: a crash between the two loses it."""

    class ActsBeforeCommit(Store):
        async def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
            machines = Machines(cloud / "machines", shared=True)
            for one in _decisions(batch):
                for create in one.creates:
                    if isinstance(create.row, Instance) and machines.get(create.row.token) is None:
                        machines.put(_machine(create.row, now))
                        await asyncio.sleep(PROVIDERS_S)
            return await super().commit(batch, now)

    return ActsBeforeCommit


def loses_wakes(cloud: Path) -> type[Store]:
    """What was woken between load and commit is forgotten."""

    class LosesWakes(Store):
        async def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
            newest = await _newest(self, {claim.ref for claim, _ in batch}, "wake_seq")
            claims = [(replace(claim, wake_seq=newest.get(claim.ref, 0)), turn) for claim, turn in batch]
            return await super().commit(claims, now)

    return LosesWakes


def starts_twice(cloud: Path) -> type[Store]:
    """A start whose record was lost is sent under a new name: the agent does not know it again."""

    class StartsTwice(Store):
        async def claim_acts(
            self, now: float, owner: str, limit: int, lease_s: float, without: Sequence[str] = ()
        ) -> list[ClaimedAct]:
            claimed = await super().claim_acts(now, owner, limit, lease_s, without)
            for one in claimed:
                if one.verb == "start_task" and one.fence > 1:
                    _forget(cloud, one.ref.id)
            return claimed

    return StartsTwice


def _decisions(batch: Sequence[tuple[Claim, Turn]]) -> list[Decision]:
    return [one for _, turn in batch for one in (*turn.units, turn.own)]


def _machine(row: Instance, now: float) -> Machine:
    offer, id_ = row.offer, f"sim-{row.token[:8]}"
    return Machine(row.token, id_, row.name, offer.key, offer.instance_type, "pretend", now, now, now)


async def _newest(store: Store, refs: Collection[Ref], column: str) -> dict[Ref, int]:
    found: dict[Ref, int] = {}
    async with store.database.read() as connection:
        for kind in {ref.kind for ref in refs}:
            t = TABLES[kind]
            ids = sorted(ref.id for ref in refs if ref.kind == kind)
            for row in await connection.execute(select(t.c.id, t.c[column]).where(t.c.id.in_(ids))):
                found[Ref(kind, row.id)] = row[1]
    return found


def _forget(cloud: Path, job_id: str) -> None:
    for file in (cloud / "agents").glob("*/tasks.json"):
        tasks = json.loads(file.read_text())
        if any(task["id"] == job_id for task in tasks):
            write_json(file, [task for task in tasks if task["id"] != job_id])


def damaged(statement: str) -> Callable[[Path], type[Store]]:
    """Before the first commit that finds rows which the SQL statement changes, and which nobody decides, it is run."""

    def of(cloud: Path) -> type[Store]:
        class Damaged(Store):
            done = False

            async def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
                if not Damaged.done:
                    async with self.database.write() as connection:
                        await connection.execute(text("PRAGMA ignore_check_constraints = ON"))
                        found = await connection.execute(text(f"{statement} AND claimed_by IS NULL"))
                        Damaged.done = found.rowcount > 0
                        await connection.execute(text("PRAGMA ignore_check_constraints = OFF"))
                return await super().commit(batch, now)

        return Damaged

    return of
