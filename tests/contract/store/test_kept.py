"""Rows that are kept as they were decoded, and what was made of them, are those of the database at every instant."""

from __future__ import annotations

from dstack.control.chore.decide import FIRST_S
from dstack.control.kernel import Change, Decision
from dstack.control.snapshots import ChoreSnapshot
from dstack.model.chore import Chore, ChoreName, ChoreStatus
from dstack.model.instance import Instance
from dstack.model.row import Ref
from dstack.server.services.chores import begin_sweep
from dstack.server.store.kept import MOST, Kept
from dstack.server.store.tables import TABLES
from dstack.server.store.trouble import Trouble
from support import builders
from support.ledger import SqlLedger

NOW = builders.T0
t = TABLES["instance"].c


async def read(ledger: SqlLedger, kept: Kept) -> list[Instance]:
    async with ledger.database.read() as connection:
        return await kept.rows(connection, Instance, t.project_id == builders.instance(0).project_id, order=(t.num,))


async def test_a_row_that_did_not_change_is_the_same_object(ledger: SqlLedger):
    await ledger.add(builders.instance(0), NOW)
    kept = Kept(Trouble())
    (first,), (second,) = await read(ledger, kept), await read(ledger, kept)
    assert first is second


async def test_a_row_that_changed_is_read_anew_and_the_others_are_not(ledger: SqlLedger):
    rows = [builders.instance(n) for n in range(2)]
    for row in rows:
        await ledger.add(row, NOW)
    kept = Kept(Trouble())
    before = await read(ledger, kept)
    await ledger.intend(rows[0].ref, NOW, unreachable_message="silent")
    after = await read(ledger, kept)
    assert after[0].unreachable_message == "silent" and after[0].version == before[0].version + 1
    assert after[1] is before[1]


async def test_rows_come_in_the_order_that_is_asked_for(ledger: SqlLedger):
    for n in (2, 0, 1):
        await ledger.add(builders.instance(n), NOW)
    assert [one.num for one in await read(ledger, Kept(Trouble()))] == [0, 1, 2]


async def test_nothing_is_kept_of_a_database_that_was_away(ledger: SqlLedger):
    await ledger.add(builders.instance(0), NOW)
    trouble = Trouble()
    kept = Kept(trouble)
    (before,) = await read(ledger, kept)
    trouble.happened("it does not answer")
    (after,) = await read(ledger, kept)
    assert after == before and after is not before


async def swept(ledger: SqlLedger, ref: Ref) -> Chore:
    snapshot = (await ledger.store.load([ref]))[ref]
    assert isinstance(snapshot, ChoreSnapshot)
    return snapshot.chore


async def test_the_sweep_of_a_backend_that_came_back_is_not_taken_for_the_one_before(ledger: SqlLedger):
    project, again = builders.instance(0).project_id, NOW + 5000
    async with ledger.database.write() as connection:
        await begin_sweep(connection, project, "sim", NOW)
    ((ref, claim),) = (await ledger.claim(NOW + FIRST_S[ChoreName.SWEEP])).items()
    before = await swept(ledger, ref)
    closing = Change(ref, before.version, {"status": ChoreStatus.CLOSED})
    await ledger.commit((claim, Decision(ref, before.version, changes=(closing,))), now=NOW)
    async with ledger.database.write() as connection:
        await begin_sweep(connection, project, "sim", again)
    assert (await swept(ledger, ref)).next_at == again + FIRST_S[ChoreName.SWEEP]


def test_texts_replace_those_of_before_of_the_same_owner_only():
    kept = Kept(Trouble())
    kept.keep_texts("a", {"1 old": b"one"})
    kept.keep_texts("b", {"2": b"two"})
    kept.keep_texts("a", {"1 new": b"one"})
    assert (kept.texts("a"), kept.texts("b"), kept.texts("c")) == ({"1 new": b"one"}, {"2": b"two"}, {})


def test_no_more_texts_are_kept_than_rows_and_those_of_the_longest_unused_go_first():
    kept = Kept(Trouble())
    kept.keep_texts("a", dict.fromkeys(map(str, range(MOST // 2)), b""))
    kept.keep_texts("b", dict.fromkeys(map(str, range(MOST // 2)), b""))
    kept.texts("a")
    kept.keep_texts("c", {"1": b"", "2": b""})
    assert (len(kept.texts("a")), len(kept.texts("b")), len(kept.texts("c"))) == (MOST // 2, 0, 2)


def test_texts_that_were_replaced_or_forgotten_take_no_room():
    kept = Kept(Trouble())
    for n in range(3):
        kept.keep_texts("a", dict.fromkeys(map(str, range(MOST // 2)), b""))
        kept.keep_texts("b", {f"{n}": b""})
    assert (len(kept.texts("a")), len(kept.texts("b"))) == (MOST // 2, 1)


def test_the_texts_of_one_owner_are_kept_however_many_they_are():
    kept = Kept(Trouble())
    kept.keep_texts("a", {"1": b""})
    kept.keep_texts("b", dict.fromkeys(map(str, range(MOST + 1)), b""))
    assert (len(kept.texts("a")), len(kept.texts("b"))) == (0, MOST + 1)


def test_no_text_is_kept_of_a_database_that_was_away():
    trouble = Trouble()
    kept = Kept(trouble)
    kept.keep_texts("a", {"1": b"one"})
    trouble.happened("it does not answer")
    assert kept.texts("a") == {}
