"""Sweeps over both databases: what is lost is found, and nothing is killed that might be somebody's."""

from __future__ import annotations

from sqlalchemy import delete, select

from dstack.model.instance import InstanceStatus
from dstack.model.orphan import OrphanOrigin, OrphanStatus
from dstack.server.services.chores import begin_sweep
from dstack.server.store.tables import TABLES, backend, event
from support.yard import START, Yard

STRANGE = "99999999-9999-4999-8999-999999999999"
FORGETS = {"failures": [{"kind": "list_forgets"}]}


async def test_a_machine_that_no_row_knows_is_quarantined_after_two_sweeps_and_runs_on(yard: Yard):
    await yard.machine(STRANGE)
    await yard.sweep()
    assert await yard.orphans() == []
    await yard.sweep()
    (found,) = await yard.orphans()
    assert (found.token, found.origin, found.status) == (STRANGE, OrphanOrigin.UNKNOWN, OrphanStatus.QUARANTINED)
    await yard.sweep(5)
    assert await yard.machines() == {STRANGE}
    assert len(await yard.orphans()) == 1
    assert [probe.verb for probe in yard.asked] == ["report_orphan"]


async def test_an_old_backup_kills_no_machine(yard: Yard):
    rows = [await yard.instance(num) for num in range(3)]
    for row in rows:
        await yard.forget(row)
    await yard.sweep(4)
    assert await yard.machines() == {row.token for row in rows}
    assert {one.status for one in await yard.orphans()} == {OrphanStatus.QUARANTINED}


async def test_a_machine_of_a_terminated_instance_is_terminated(yard: Yard):
    row = await yard.instance(status=InstanceStatus.TERMINATED)
    assert row.data is not None
    await yard.sweep()
    assert await yard.machines() == {row.token}
    await yard.sweep()
    assert await yard.machines() == set()
    assert await yard.orphans() == []
    async with yard.database.read() as connection:
        told = list((await connection.execute(select(event.c.message).order_by(event.c.seq))).scalars())
    assert told == [
        f"Orphaned machine {row.data.backend_id} found: its instance f-0 is terminated",
        f"Orphaned machine {row.data.backend_id} is being terminated",
        f"Orphaned machine {row.data.backend_id} is settled: its provider says that it is gone",
    ]


async def test_an_instance_whose_machine_is_gone_is_given_up_after_two_sweeps(yard: Yard):
    row = await yard.instance()
    await yard.lose(row)
    await yard.sweep()
    assert (await yard.now(row)).status is InstanceStatus.IDLE
    await yard.sweep()
    assert (await yard.now(row)).status is InstanceStatus.TERMINATED


async def test_a_list_that_forgets_machines_does_no_harm(yard: Yard):
    row = await yard.instance()
    await yard.machine(STRANGE)
    await yard.sweep(2)
    await yard.configure(**FORGETS)
    await yard.sweep(5)
    assert (await yard.now(row)).status is InstanceStatus.IDLE
    assert await yard.machines() == {row.token, STRANGE}


async def test_an_instance_whose_agent_answers_is_left_alone_whatever_the_cloud_says(yard: Yard):
    row = await yard.instance(linked=True)
    await yard.lose(row)
    await yard.sweep(5)
    assert (await yard.now(row)).status is InstanceStatus.IDLE


async def test_an_orphan_that_is_gone_is_settled_after_two_sweeps(yard: Yard):
    await yard.machine(STRANGE)
    await yard.sweep(2)
    await (await yard.cloud()).terminate_instance(STRANGE, None)
    await yard.sweep()
    assert len(await yard.orphans()) == 1
    await yard.sweep()
    assert await yard.orphans() == []


async def test_an_orphan_whose_row_comes_back_is_adopted(yard: Yard):
    row = await yard.instance()
    await yard.forget(row)
    await yard.sweep(2)
    assert len(await yard.orphans()) == 1
    await yard.instance(machine=False, data=row.data)
    await yard.sweep()
    assert await yard.orphans() == []
    assert await yard.machines() == {row.token}


async def test_nothing_is_concluded_from_a_backend_that_cannot_be_asked(yard: Yard):
    row = await yard.instance()
    await yard.machine(STRANGE)
    await yard.sweep(2)
    await yard.configure(credentials="broken")
    await yard.sweep(4)
    assert (await yard.now(row)).status is InstanceStatus.IDLE
    assert len(await yard.orphans()) == 1
    await yard.configure()
    await yard.lose(row)
    await yard.sweep(3)
    assert (await yard.now(row)).status is InstanceStatus.TERMINATED, "the sweeps go on"


async def test_the_sweep_of_a_removed_backend_ends_and_one_that_comes_back_begins_anew(yard: Yard):
    async with yard.database.write() as connection:
        await connection.execute(delete(backend))
    yard.backends.changed(yard.project_id)
    await yard.sweep()
    chore = TABLES["chore"]
    async with yard.database.write() as connection:
        assert (await connection.execute(select(chore.c.status, chore.c.due_at))).all() == [("closed", None)]
        await begin_sweep(connection, yard.project_id, "sim", START)
        assert (await connection.execute(select(chore.c.status))).scalars().all() == ["active"]
