"""All lock rows in one order, so that no two transactions wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from dstack.control.kernel import Change, Decision
from dstack.model.instance import Instance
from dstack.server.services.rows import fetch
from dstack.server.store.tables import TABLES
from support import builders
from support.ledger import SqlLedger

# Of SQLite's writers one works at a time.
pytestmark = pytest.mark.parametrize("url", ["postgresql"], indirect=True)
NOW = builders.T0
PATIENCE_S = 60.0
WAITERS = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


async def taken_before(url: str, first: str, then: str, work: Callable[[], Awaitable[object]]) -> bool:
    """Whether `work` has locked `then` already while it waits for `first`; each a table and an id, as `job:7`."""
    held, look = [await asyncpg.connect(url.replace("+asyncpg", "")) for _ in range(2)]
    try:
        async with held.transaction():
            await held.execute(locking(first))
            working = asyncio.ensure_future(work())
            async with asyncio.timeout(PATIENCE_S):
                while not await look.fetchval(WAITERS):
                    await asyncio.sleep(0.02)
            try:
                async with look.transaction():
                    await look.execute(f"{locking(then)} NOWAIT")
                taken = False
            except asyncpg.LockNotAvailableError:
                taken = True
        await working
        return taken
    finally:
        await held.close()
        await look.close()


def locking(row: str) -> str:
    table, id_ = row.split(":")
    return f"SELECT 1 FROM \"{table}\" WHERE id = '{id_}' FOR UPDATE"


async def test_a_commit_locks_what_it_wakes_in_its_place_among_what_it_changes(ledger: SqlLedger, url: str):
    fleet, instance = builders.fleet(), builders.instance(0)
    await ledger.add(fleet, NOW + 99)
    await ledger.add(instance, NOW)
    claim = (await ledger.claim(NOW))[instance.ref]
    own = Change(instance.ref, instance.version, {"busy_blocks": 1})
    decision = Decision(instance.ref, instance.version, changes=(own,), wakes=(fleet.ref,), wake_at=NOW)
    places = f"fleet:{fleet.id}", f"instance:{instance.id}"
    assert not await taken_before(url, *places, lambda: ledger.commit((claim, decision), now=NOW))


async def test_claims_are_given_back_in_the_order_in_which_commits_lock(ledger: SqlLedger, url: str):
    rows = [builders.instance(n) for n in (1, 0)]
    for row in rows:
        await ledger.add(row, NOW)
    claims = await ledger.claim(NOW)
    later, first = (f"instance:{row.id}" for row in rows)
    work = lambda: ledger.store.release([claims[row.ref] for row in rows], NOW)  # noqa: E731
    assert not await taken_before(url, first, later, work)


async def test_what_a_service_locks_it_locks_in_the_order_in_which_commits_do(ledger: SqlLedger, url: str):
    rows = [builders.instance(n) for n in (1, 0)]
    for row in rows:
        await ledger.add(row, NOW)

    async def work() -> None:
        async with ledger.database.write() as connection:
            ids = [row.id for row in rows]
            await fetch(connection, Instance, TABLES["instance"].c.id.in_(ids), lock=True)

    later, first = (f"instance:{row.id}" for row in rows)
    assert not await taken_before(url, first, later, work)
