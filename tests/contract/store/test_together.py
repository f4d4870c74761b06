"""What many tell at once is written in one transaction, and each of them hears what became of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.kernel import Act, Decision
from dstack.model.instance import InstanceStatus
from dstack.model.observation import Gone, InstanceCreated
from dstack.model.row import Ref
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.host_links import Hold, StaleHold
from dstack.server.store.together import Together
from dstack.server.store.trouble import DatabaseUnavailable
from support import builders
from support.ledger import SqlLedger

NOW = builders.T0


class Writer:
    """Notes which items come together; refuses some, and cannot write the one that is called `poison`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate, self.begun = asyncio.Event(), asyncio.Event()

    async def __call__(self, connection: AsyncConnection, items: Sequence[str]) -> list[str | Exception]:
        self.begun.set()
        await self.gate.wait()
        await connection.execute(select(1))
        self.batches.append(list(items))
        if "poison" in items:
            raise ValueError("poison")
        return [LookupError(one) if one.startswith("no") else one.upper() for one in items]


async def all_at_once(together: Together[str, str], writer: Writer, *items: str) -> list[str | BaseException]:
    waiting = [asyncio.ensure_future(together.put(one)) for one in items]
    await asyncio.sleep(0)
    writer.gate.set()
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_those_who_wait_are_written_by_the_first_in_line(ledger: SqlLedger):
    writer = Writer()
    together = Together(ledger.database, writer)
    assert await all_at_once(together, writer, "a", "b", "c") == ["A", "B", "C"]
    assert writer.batches == [["a", "b", "c"]]


async def test_each_hears_of_its_own_refusal(ledger: SqlLedger):
    writer = Writer()
    found = await all_at_once(Together(ledger.database, writer), writer, "a", "no", "c")
    assert found[0] == "A" and isinstance(found[1], LookupError) and found[2] == "C"


async def test_one_that_cannot_be_written_does_not_keep_the_others_from_it(ledger: SqlLedger):
    writer = Writer()
    found = await all_at_once(Together(ledger.database, writer), writer, "a", "poison", "c")
    assert found[0] == "A" and isinstance(found[1], ValueError) and found[2] == "C"


async def test_one_that_is_cancelled_while_it_waits_is_not_written_later(ledger: SqlLedger):
    writer = Writer()
    together = Together(ledger.database, writer)
    first = asyncio.ensure_future(together.put("a"))
    await writer.begun.wait()
    second = asyncio.ensure_future(together.put("b"))
    await asyncio.sleep(0)
    second.cancel()
    writer.gate.set()
    assert await first == "A"
    assert await together.put("c") == "C"
    assert [one for batch in writer.batches for one in batch] == ["a", "c"]


async def test_the_rest_is_written_though_the_first_in_line_is_cancelled(ledger: SqlLedger):
    writer = Writer()
    together = Together(ledger.database, writer)
    first = asyncio.ensure_future(together.put("a"))
    second = asyncio.ensure_future(together.put("b"))
    await writer.begun.wait()
    first.cancel()
    writer.gate.set()
    assert await second == "B"
    with pytest.raises(asyncio.CancelledError):
        await first


async def claimed(ledger: SqlLedger, count: int) -> list[ClaimedAct]:
    """Acts of so many instances, taken to be run."""
    for n in range(count):
        await ledger.add(builders.instance(n, status=InstanceStatus.PENDING), NOW)
    pairs = [
        (claim, Decision(ref, 1, acts=(Act(ref, "create_instance", f"token-{ref.id}", {}),), wake_at=NOW + 60))
        for ref, claim in (await ledger.claim(NOW)).items()
    ]
    await ledger.commit(*pairs, now=NOW)
    return sorted(await ledger.claim_acts(NOW), key=lambda one: one.ref.id)


async def test_of_acts_that_end_together_one_whose_claim_was_lost_delivers_nothing(ledger: SqlLedger):
    first, second, third = await claimed(ledger, 3)
    (late,) = [one for one in await ledger.claim_acts(NOW + 120, "server-b") if one.ref == second.ref]
    store = ledger.store
    ends = [store.finish_act(one, [(one.ref, Gone())], NOW) for one in (first, second)]
    assert await asyncio.gather(*ends) == [False, False]  # server-b took all of them
    taken = [one for one in await ledger.claim_acts(NOW + 240, "server-c") if one.ref != late.ref]
    ends = [store.finish_act(one, [(one.ref, Gone())], NOW) for one in (late, *taken)]
    assert sorted(await asyncio.gather(*ends)) == [False, True, True]
    assert [len(await ledger.inbox_of(one.ref)) for one in (first, second, third)] == [1, 0, 1]


async def test_an_act_that_is_said_to_be_over_twice_delivers_once(ledger: SqlLedger):
    (one,) = await claimed(ledger, 1)
    ends = [ledger.store.finish_act(one, [(one.ref, Gone())], NOW) for _ in range(2)]
    assert await asyncio.gather(*ends) == [True, False]
    assert len(await ledger.inbox_of(one.ref)) == 1


async def test_what_the_holder_of_a_host_tells_counts_beside_what_a_late_one_tells(ledger: SqlLedger):
    rows = [builders.instance(n, status=InstanceStatus.IDLE) for n in range(2)]
    for row in rows:
        await ledger.add(row, NOW)
    held, other = await ledger.store.take_links("server-a", [row.id for row in rows])
    late = Hold(other.instance_id, other.server_id, other.epoch + 1)
    told = [ledger.store.observe([(Ref("instance", h.instance_id), Gone())], NOW, h) for h in (held, late)]
    found = await asyncio.gather(*told, return_exceptions=True)
    assert found[0] is None and isinstance(found[1], StaleHold)
    assert len(await ledger.inbox_of(Ref("instance", held.instance_id))) == 1
    assert await ledger.inbox_of(Ref("instance", late.instance_id)) == []


async def test_acts_that_end_and_that_run_again_are_told_apart(ledger: SqlLedger):
    first, second = await claimed(ledger, 2)
    store = ledger.store
    ends = store.finish_act(first, [(first.ref, InstanceCreated(data=builders.data()))], NOW)
    again = store.retry_act(second, (), NOW + 5, "busy", NOW)
    assert await asyncio.gather(ends, again) == [True, True]
    assert await ledger.acts_of(first.ref) == []
    assert [one.ref for one in await ledger.claim_acts(NOW + 5)] == [second.ref]


async def test_nobody_is_written_alone_while_the_database_is_away(ledger: SqlLedger):
    tried: list[int] = []

    async def write(_: AsyncConnection, items: Sequence[str]) -> list[str]:
        tried.append(len(items))
        if len(tried) == 1:
            raise ValueError("one of them cannot be written")
        raise DatabaseUnavailable("its disk fails")

    together = Together(ledger.database, write)
    found = await asyncio.gather(*(together.put(one) for one in "abcde"), return_exceptions=True)
    assert [type(one) for one in found] == [DatabaseUnavailable] * 5
    assert tried == [5, 1]  # each try may take as long as a database is waited for
