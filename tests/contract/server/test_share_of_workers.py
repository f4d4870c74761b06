"""No kind of act takes all workers: what cannot get on must not hold up the rest."""

from __future__ import annotations

import asyncio

from sqlalchemy import insert

from dstack.model.offer import Offer
from dstack.server.effects.acts import ActRunner, Done
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.database import Database
from dstack.server.store.store import Store
from dstack.server.store.tables import act
from support.yard import START, SetClock

PATIENCE_S = 60.0
WORKERS = 8


async def no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


async def test_acts_of_another_verb_run_while_one_verb_is_stuck(database: Database):
    stuck, removals, stops = asyncio.Event(), 0, asyncio.Queue[str]()

    async def remove(_: ClaimedAct) -> Done:
        nonlocal removals
        removals += 1
        await stuck.wait()
        return Done()

    async def stop(one: ClaimedAct) -> Done:
        stops.put_nowait(one.token)
        return Done()

    handlers = {("job", "remove_task"): remove, ("job", "stop_task"): stop}
    runner = ActRunner(Store(database, no_offers), SetClock(), "me", handlers, WORKERS, lambda: None)
    for number in range(3 * WORKERS):
        await add(database, f"r{number}", "remove_task", START - 100)
    await add(database, "s", "stop_task", START)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        running = group.create_task(runner.run())
        assert await stops.get() == "s"
        assert removals == WORKERS * 3 // 4
        stuck.set()
        while removals < 3 * WORKERS:
            await asyncio.sleep(0)
        running.cancel()


async def add(database: Database, name: str, verb: str, due_at: float) -> None:
    values = {"token": name, "kind": "job", "resource_id": name, "verb": verb, "payload": "{}"}
    async with database.write() as connection:
        await connection.execute(insert(act).values(**values, created_at=START, due_at=due_at))
