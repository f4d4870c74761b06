"""The server's workers over a real database: one bad row, act or moment does not take the rest along."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from dstack.control.kernel import Probe
from dstack.model.instance import InstanceStatus
from dstack.model.offer import Offer
from dstack.model.row import Ref
from dstack.server.effects.acts import ActRunner, Done
from dstack.server.effects.probes import ProbeRunner, within_reach
from dstack.server.engine.loop import Dispatch, Engine
from dstack.server.logs.files import LogStore
from dstack.server.services.rows import insert_rows
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.rows import row
from dstack.server.store.store import Store
from dstack.server.store.tables import act, inbox
from support import builders
from support.yard import SetClock

START = builders.T0
PATIENCE_S = 20.0


async def no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


async def test_an_act_whose_lease_ran_out_while_the_machine_slept_is_carried_out_once(database: Database):
    clock, begun, going_on = SetClock(), asyncio.Queue(), asyncio.Event()

    async def handler(one: ClaimedAct) -> Done:
        begun.put_nowait(one.token)
        await going_on.wait()
        return Done()

    runner = ActRunner(Store(database, no_offers), clock, "me", {("job", "start_task"): handler}, 4, lambda: None)
    await _add_act(database, "a", "start_task")
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        running = group.create_task(runner.run())
        await begun.get()
        clock.at += 8 * 3600
        await _add_act(database, "b", "start_task")
        runner.kick()
        assert await begun.get() == "token-b", "the first was begun once more"
        going_on.set()
        while await _acts(database):
            await asyncio.sleep(0)
        running.cancel()
    assert begun.empty()


async def test_a_row_that_cannot_be_loaded_does_not_stop_the_others(database: Database):
    good, bad = builders.instance(0), builders.instance(1)
    pending = {"status": InstanceStatus.PENDING, "linked": False, "host": None, "data": None}
    good = good.replace(**pending)
    async with database.write() as connection:
        await insert_rows(connection, [builders.fleet()], START)
        await insert_rows(connection, [good, bad], START)
        unreadable = {
            "kind": "instance",
            "resource_id": bad.id,
            "observation": '{"type": "from the future"}',
            "at": 1.0,
        }
        await connection.execute(insert(inbox).values(**unreadable))
    engine = Engine(Store(database, no_offers), SetClock(), "me", _nowhere())

    await engine.turn()

    assert (await row(database, type(good), good.id)).status is InstanceStatus.PROVISIONING
    assert await Store(database, no_offers).claim_due(START + 59, "me", 9, 30.0) == []


async def test_the_answer_to_a_probe_is_looked_at_at_once():
    kicked = asyncio.Event()

    async def asker(_: Probe) -> None:
        assert not kicked.is_set()

    probes = ProbeRunner({("instance", "describe_instance"): asker}, kicked.set)
    probes.ask([Probe(Ref("instance", "i"), "describe_instance", {})])
    running = asyncio.ensure_future(probes.run())
    async with asyncio.timeout(PATIENCE_S):
        await kicked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_machine_of_another_server_is_not_asked_for_here(database: Database):
    asked: list[str] = []

    async def asker(probe: Probe) -> None:
        asked.append(probe.ref.id)

    ours, theirs, anybodys = (builders.instance(n) for n in range(3))
    ours = ours.replace(offer=ours.offer.model_copy(update={"server_id": "me"}))
    theirs = theirs.replace(offer=theirs.offer.model_copy(update={"server_id": "another"}))
    async with database.write() as connection:
        await insert_rows(connection, [ours, theirs, anybodys], START)
    for one in (ours, theirs, anybodys):
        await within_reach(database, "me", asker)(Probe(one.ref, "describe_instance", {}))
    assert asked == [ours.id, anybodys.id]


async def test_a_write_of_a_log_that_is_cancelled_does_not_go_on_behind_the_next_one(
    database: Database, tmp_path: Path
):
    logs = LogStore(tmp_path / "logs", database, Changes(START))
    data = b"x" * (32 * 1024 * 1024)
    writing = asyncio.ensure_future(logs.append("p", "j", 0, data, ((0, START),), False))
    while not (tmp_path / "logs" / "p" / "j.log").exists():
        await asyncio.sleep(0)

    writing.cancel()  # the host's link breaks
    await asyncio.gather(writing, return_exceptions=True)

    # Were the thread still at it, it would cut off what the next link appends.
    assert (await logs.size("j")).size == len(data)
    assert (tmp_path / "logs" / "p" / "j.log").stat().st_size == len(data)


async def test_values_are_not_shown_in_errors_of_the_database(database: Database):
    await _add_act(database, "a", "start_task", payload="hush-hush")
    with pytest.raises(IntegrityError) as refused:
        await _add_act(database, "a", "start_task", payload="hush-hush")
    assert "hush-hush" not in str(refused.value)


async def _add_act(database: Database, name: str, verb: str, payload: str = "{}") -> None:
    values = {"token": f"token-{name}", "kind": "job", "resource_id": name, "verb": verb, "payload": payload}
    async with database.write() as connection:
        await connection.execute(insert(act).values(**values, created_at=START, due_at=START))


async def _acts(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.execute(select(act.c.token))).scalars())


def _nowhere() -> Dispatch:
    return Dispatch(lambda: None, lambda _: None, lambda _: None)
