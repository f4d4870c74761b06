"""A newer release expands the schema while servers of this one work: they lose nothing, and may start again."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import text

from dstack.control.kernel import Change, Decision
from dstack.server.store import migrate, migrations
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.store import Store
from support import builders
from support.ledger import SqlLedger

from .conftest import no_offers

NOW = builders.T0
ROUNDS = 40
PATIENCE_S = 60.0
EXPANSION = (
    "ALTER TABLE instance ADD COLUMN of_the_future VARCHAR",
    "ALTER TABLE host_link ADD COLUMN of_the_future BIGINT NOT NULL DEFAULT 0",
    "CREATE TABLE future_kind (id VARCHAR PRIMARY KEY)",
    "UPDATE alembic_version SET version_num = '9999'",
)


async def expand(url: str) -> None:
    """What the migration of a newer release does, which keeps this one compatible."""
    database = Database(url)
    async with migrate.one_at_a_time(url), database.write() as connection:
        for statement in EXPANSION:
            await connection.execute(text(statement))
        value = {"value": migrations.HEAD.encode(), "key": migrate.COMPATIBLE}
        await connection.execute(text("UPDATE meta SET value = :value WHERE key = :key"), value)
    await database.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_server_works_on_while_a_newer_one_migrates_and_may_start_again(ledger: SqlLedger, url: str):
    row = builders.instance()
    await ledger.add(row, NOW)
    halfway, expanded = asyncio.Event(), asyncio.Event()

    async def work() -> int:
        n, after = 0, 0
        while after < ROUNDS // 2:
            n += 1
            after += expanded.is_set()
            claim, current = (await ledger.claim(NOW))[row.ref], await ledger.get(row.ref)
            change = Change(row.ref, current.version, {"busy_blocks": n})
            done = Decision(row.ref, current.version, changes=(change,), wake_at=NOW)
            assert (await ledger.commit((claim, done), now=NOW)).accepted
            if n == ROUNDS // 2:
                halfway.set()
        return n

    async def migrate_meanwhile() -> None:
        await halfway.wait()
        await expand(url)
        expanded.set()

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        working = group.create_task(work())
        group.create_task(migrate_meanwhile())
    rounds = working.result()
    assert (await ledger.get(row.ref)).busy_blocks == rounds

    assert await upgrade(url) is False
    again = SqlLedger(Store(Database(url), no_offers))
    try:
        assert (await again.get(row.ref)).busy_blocks == rounds
        assert row.ref in await again.claim(NOW)
        assert await again.store.take_links("server-a", [row.id])
    finally:
        await again.database.close()


async def test_what_a_newer_server_adds_to_what_is_stored_does_not_keep_this_one_from_the_row(ledger: SqlLedger):
    row = builders.job()
    await ledger.add(row, NOW)
    async with ledger.database.write() as connection:
        spec = (await connection.execute(text("SELECT spec FROM job"))).scalar_one()
        newer = json.dumps({**json.loads(spec), "of_the_future": {"deep": [1]}})
        await connection.execute(text("UPDATE job SET spec = :spec"), {"spec": newer})
    assert (await ledger.get(row.ref)).spec == row.spec
    assert row.ref in await ledger.store.load([row.ref])
