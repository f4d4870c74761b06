"""Servers of one database: who lives, who holds which host, and what a server that others took for dead cannot do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dstack.control.kernel import Act, Create, Decision
from dstack.errors import DstackError
from dstack.model.instance import Instance, InstanceStatus, ProvisioningData
from dstack.model.observation import LinkUp
from dstack.model.row import Ref
from dstack.server.logs import storage
from dstack.server.logs.files import LogStore
from dstack.server.store import servers
from dstack.server.store.changes import Changes
from dstack.server.store.claims import disown
from dstack.server.store.host_links import Hold, StaleHold
from dstack.server.store.servers import Member, Pulse
from dstack.server.store.store import Store
from dstack.server.store.tables import host_link, server
from dstack.server.store.trouble import DatabaseUnavailable
from support import builders
from support.ledger import SqlLedger

# A SQLite file has one server.
several = pytest.mark.parametrize("url", ["postgresql"], indirect=True)
NOW = builders.T0
A, B = "server-a", "server-b"
PATIENCE_S = 60.0


def member(id_: str, session: str = "1", name: str | None = None) -> Member:
    return Member(id_, session, name or f"{id_}:/data", "1.0")


async def enter(store: Store, me: Member) -> None:
    async with store.database.write() as connection:
        await servers.join(connection, me, NOW)


async def fall_silent(store: Store, id_: str) -> None:
    """The lease of the server ran out, by whichever clock."""
    async with store.database.write() as connection:
        await connection.execute(update(server).where(server.c.id == id_).values(until=1.0))


async def host(ledger: SqlLedger, n: int = 0) -> Instance:
    data = ProvisioningData(backend_id=f"m-{n}")
    row = builders.instance(n, status=InstanceStatus.IDLE, data=data)
    await ledger.add(row, NOW)
    return row


async def taken(store: Store, server_id: str, row: Instance) -> Hold | None:
    return next(iter(await store.take_links(server_id, [row.id])), None)


async def refused(store: Store, hold: Hold, ref: Ref) -> bool:
    try:
        await store.observe([(ref, LinkUp(host=builders.host()))], NOW, hold)
    except StaleHold:
        return True
    return False


async def test_a_host_is_held_by_one_server_until_that_gives_it_back(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    first = await taken(store, A, row)
    assert first is not None and await taken(store, B, row) is None
    assert [one.free for one in await store.linkable(B, [row.id])] == [False]
    await store.give_back_links([first])
    second = await taken(store, B, row)
    assert second is not None and second.epoch > first.epoch


async def test_more_hosts_are_asked_for_and_taken_at_once_than_a_statement_can_name(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    others = [f"i{n:05}" for n in range(33_000)]
    assert [one.instance.id for one in await store.linkable(A, [row.id, *others])] == [row.id]
    held = await store.take_links(A, others[:12_000])
    assert len(held) == 12_000 and {hold.server_id for hold in held} == {A}
    assert await store.take_links(B, others[:2]) == []


async def test_what_a_former_holder_saw_is_refused_and_what_the_holder_sees_is_written(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    first = await taken(store, A, row)
    assert first is not None
    await store.give_back_links([first])
    second = await taken(store, B, row)
    assert second is not None
    assert await refused(store, first, row.ref) and not await ledger.inbox_of(row.ref)
    assert not await refused(store, second, row.ref) and len(await ledger.inbox_of(row.ref)) == 1


async def test_the_log_of_a_former_holder_is_refused_and_harms_nothing(ledger: SqlLedger, tmp_path):
    row, store = await host(ledger), ledger.store
    logs = LogStore(tmp_path / "logs", ledger.database, Changes(NOW))
    first = await taken(store, A, row)
    assert first is not None
    await logs.append("p", "j", 0, b"one\n", ((0, 1.0),), False, first)
    await store.give_back_links([first])
    second = await taken(store, B, row)
    other = LogStore(tmp_path / "logs", ledger.database, Changes(NOW))
    await other.append("p", "j", 4, b"two\nthree\n", ((0, 2.0), (4, 3.0)), False, second)
    # Frozen while it stored the first of the two lines, it goes on where it was.
    late = LogStore(tmp_path / "logs", ledger.database, Changes(NOW))
    with pytest.raises(StaleHold):
        await late.append("p", "j", 14, b"four\n", ((0, 4.0),), False, first)
    late._write("p", "j", logs._sizes["j"], b"two\n", ((4, 2.0),))
    read = await other.read("p", "j", 0, 100)
    assert read.data == b"one\ntwo\nthree\n"
    assert [read.at(offset) for offset in (0, 4, 8)] == [1.0, 2.0, 3.0]


async def test_what_a_server_wrote_of_a_log_and_died_before_it_committed_is_written_over(ledger: SqlLedger, tmp_path):
    dead = LogStore(tmp_path / "logs", ledger.database, Changes(NOW))
    await dead.append("p", "j", 0, b"one\n", ((0, 1.0),), False)
    dead._write("p", "j", dead._sizes["j"], b"two\n", ((4, 2.0),))
    logs = LogStore(tmp_path / "logs", ledger.database, Changes(NOW))
    assert (await logs.read("p", "j", 0, 100)).data == b"one\n"
    await logs.append("p", "j", 4, b"two\nthree\n", ((0, 2.0), (4, 3.0)), True)
    read = await logs.read("p", "j", 0, 100)
    assert (read.data, read.final) == (b"one\ntwo\nthree\n", True)
    assert [read.at(offset) for offset in (0, 4, 8)] == [1.0, 2.0, 3.0]


async def test_where_a_log_was_cut_into_pieces_leaves_no_trace_in_its_index(ledger: SqlLedger, tmp_path):
    whole = LogStore(tmp_path / "whole", ledger.database, Changes(NOW))
    cut = LogStore(tmp_path / "cut", ledger.database, Changes(NOW))
    await whole.append("p", "whole", 0, b"aabb", ((0, 1.0), (2, 2.0)), True)
    await cut.append("p", "cut", 0, b"a", ((0, 1.0),), False)
    await cut.append("p", "cut", 1, b"ab", ((0, 1.0), (1, 2.0)), False)
    await cut.append("p", "cut", 3, b"b", ((0, 2.0),), True)
    one, other = (tmp_path / name / "p" / f"{name}.idx" for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


@several
async def test_a_silent_server_loses_its_hosts_and_claims_to_the_others_at_once(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    await enter(store, member(A))
    await enter(store, member(B))
    hold = await taken(store, A, row)
    claims = await ledger.claim(NOW, A)
    assert hold is not None and row.ref in claims
    assert (await store.beat(member(B), NOW))[1].buried == ()
    await fall_silent(store, A)
    assert (await store.beat(member(B), NOW))[1].buried == (member(A).name,)
    assert await taken(store, B, row) is not None
    assert row.ref in await ledger.claim(NOW, B)
    late = await ledger.commit((claims[row.ref], Decision(row.ref, row.version, wake_at=NOW + 9)), now=NOW)
    assert not late.accepted
    assert await refused(store, hold, row.ref)


@several
async def test_a_server_that_was_taken_for_dead_learns_it_and_holds_nothing(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    await enter(store, member(A))
    await enter(store, member(B))
    await taken(store, A, row)
    await fall_silent(store, A)
    await store.beat(member(B), NOW)
    pulse, others = await store.beat(member(A), NOW)
    assert (pulse, others.alive) == (Pulse.BURIED, (B,))
    assert [one.free for one in await store.linkable(B, [row.id])] == [True]
    assert (await store.beat(member(A), NOW))[0] is Pulse.ALIVE


async def test_a_server_that_stops_gives_back_everything_at_once(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    await enter(store, member(A))
    await taken(store, A, row)
    await ledger.claim(NOW, A)
    await store.leave(member(A))
    assert row.ref in await ledger.claim(NOW, B)
    assert await taken(store, B, row) is not None


async def test_a_restarted_server_takes_up_what_its_killed_process_held(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    await enter(store, member(A))
    before = await taken(store, A, row)
    await ledger.claim(NOW, A)
    await enter(store, member(A, session="2"))
    assert row.ref in await ledger.claim(NOW, A)
    after = await taken(store, A, row)
    assert before is not None and after is not None and after.epoch > before.epoch


@several
async def test_of_two_processes_with_one_id_the_copy_is_refused_and_a_replaced_one_is_told(ledger: SqlLedger):
    store = ledger.store
    await enter(store, member(A))
    with pytest.raises(DstackError, match="already runs") as caught:
        await enter(store, member(A, "2", "elsewhere:/copy"))
    assert "server.id" in (caught.value.hint or "")
    await fall_silent(store, A)
    await enter(store, member(A, "2", "elsewhere:/moved"))
    assert (await store.beat(member(A), NOW))[0] is Pulse.REPLACED


@several
async def test_acts_that_need_a_host_are_run_by_its_holder_alone(ledger: SqlLedger):
    row, store = await host(ledger), ledger.store
    job = builders.job("j", on=row)
    await ledger.add(job, NOW)
    await _intend(ledger, job.ref, "stop_task")
    await _intend(ledger, row.ref, "terminate_instance")
    assert [a.verb for a in await store.claim_acts(NOW, A, 9, 30.0)] == ["terminate_instance"], "nobody holds it yet"
    async with ledger.database.write() as connection:
        await disown(connection, A)
    await taken(store, B, row)
    assert await store.claim_acts(NOW, "server-c", 9, 30.0) == []
    assert await store.next_act_due("server-c") is None
    assert {a.verb for a in await store.claim_acts(NOW, B, 9, 30.0)} == {"stop_task", "terminate_instance"}


async def test_a_machine_of_one_server_is_made_and_linked_by_that_server_alone(ledger: SqlLedger):
    store, fleet = ledger.store, builders.fleet()
    await ledger.add(fleet, NOW)
    claim = (await ledger.claim(NOW, A))[fleet.ref]
    row = builders.instance(7, status=InstanceStatus.IDLE, data=ProvisioningData(backend_id="m-7"))
    row = row.replace(offer=row.offer.model_copy(update={"server_id": A}))
    acts = (Act(row.ref, "create_instance", "t", {}),)
    made = Decision(fleet.ref, fleet.version, creates=(Create(row),), acts=acts, wake_at=NOW + 9)
    assert (await ledger.commit((claim, made), now=NOW)).accepted
    if not ledger.database.sqlite:
        assert await store.claim_acts(NOW, B, 9, 30.0) == []
    assert [a.verb for a in await store.claim_acts(NOW, A, 9, 30.0)] == ["create_instance"]
    assert await store.linkable(B, None) == []
    assert await taken(store, B, row) is None
    assert await taken(store, A, row) is not None


async def test_hosts_of_machines_that_are_gone_are_forgotten(ledger: SqlLedger):
    store = ledger.store
    row = builders.instance(0, status=InstanceStatus.TERMINATED)
    await ledger.add(row, NOW)
    await enter(store, member(A))
    await taken(store, A, row)
    await store.leave(member(A))
    async with ledger.database.read() as connection:
        assert (await connection.execute(select(host_link.c.instance_id))).all() == []


async def _intend(ledger: SqlLedger, ref: Ref, verb: str) -> None:
    """An unfinished act of this row, as a decision leaves it."""
    claim, row = (await ledger.claim(NOW, "decider"))[ref], await ledger.get(ref)
    decision = Decision(ref, row.version, acts=(Act(ref, verb, f"t-{verb}", {}),), wake_at=NOW)
    assert (await ledger.commit((claim, decision), now=NOW)).accepted
    async with ledger.database.write() as connection:
        await disown(connection, "decider")


@several
async def test_a_server_that_is_frozen_in_the_middle_of_a_transaction_does_not_keep_its_locks(ledger: SqlLedger):
    store = ledger.store
    await enter(store, member(A))
    await enter(store, member(B))
    await fall_silent(store, A)
    with pytest.raises(DatabaseUnavailable):
        async with ledger.database.write() as frozen:
            await frozen.execute(update(server).where(server.c.id == A).values(last_seen=NOW + 1))
            async with asyncio.timeout(PATIENCE_S):
                while member(A).name not in (await store.beat(member(B), NOW))[1].buried:
                    await asyncio.sleep(0.1)


async def test_storage_is_where_the_others_look(ledger: SqlLedger, tmp_path):
    async def stored_in(folder: Path | None, me: Member) -> None:
        async with ledger.database.write() as connection:
            await storage.check(connection, folder, me, NOW)

    await stored_in(None, member(A))
    await stored_in(None, member(B))  # nobody else lives
    await stored_in(tmp_path / "shared", member(A))
    await stored_in(tmp_path / "shared", member(B))
    with pytest.raises(DstackError, match="servers share"):
        await stored_in(None, member(A))
    with pytest.raises(DstackError, match="is not the folder") as caught:
        await stored_in(tmp_path / "not-mounted", member(A))
    assert (tmp_path / "shared" / storage.MARKER).read_text().strip() in (caught.value.hint or "")


@several
async def test_a_second_server_without_a_shared_folder_is_refused_while_the_first_one_lives(ledger: SqlLedger):
    async with ledger.database.write() as connection:
        await storage.check(connection, None, member(A), NOW)
        await servers.join(connection, member(A), NOW)
    with pytest.raises(DstackError, match="server-a:/data") as caught:
        async with ledger.database.write() as connection:
            await storage.check(connection, None, member(B), NOW)
    assert "DSTACK_SERVER_SHARED_DIR" in (caught.value.hint or "")
