"""A copied database holds what the first one held, and lives on."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from dstack.errors import DstackError
from dstack.model.observation import Gone
from dstack.server.store.copying import copy
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.store import Store
from dstack.server.store.tables import inbox
from support.ledger import SqlLedger

from .conftest import no_offers
from .test_commit import NOW, instance


@pytest.fixture
async def source(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'source.db'}"
    await upgrade(url)
    database = Database(url)
    yield SqlLedger(Store(database, no_offers))
    await database.close()


async def test_a_copy_holds_the_same_rows(source: SqlLedger, url: str):
    rows = [instance(n) for n in range(3)]
    for row in rows:
        await source.add(row, NOW)
    await source.observe(rows[0].ref, Gone(), NOW)
    counts = await copy(source.database, url)
    target = Database(url)
    try:
        ledger = SqlLedger(Store(target, no_offers))
        assert [await ledger.get(row.ref) for row in rows] == rows
        assert (counts["instance"], counts["inbox"]) == (3, 1)
    finally:
        await target.close()


async def test_numbers_given_out_by_the_database_go_on_after_the_copied_ones(source: SqlLedger, url: str):
    row = instance()
    await source.add(row, NOW)
    for _ in range(3):
        await source.observe(row.ref, Gone(), NOW)
    await copy(source.database, url)
    target = Database(url)
    try:
        await SqlLedger(Store(target, no_offers)).observe(row.ref, Gone(), NOW)
        async with target.read() as connection:
            assert list((await connection.execute(select(inbox.c.id).order_by(inbox.c.id))).scalars()) == [1, 2, 3, 4]
    finally:
        await target.close()


async def test_claims_are_not_copied(source: SqlLedger, url: str):
    await source.add(instance(), NOW)
    await source.claim(NOW)
    await copy(source.database, url)
    target = Database(url)
    try:
        assert len(await SqlLedger(Store(target, no_offers)).claim(NOW, "server-b")) == 1
    finally:
        await target.close()


async def test_a_target_that_holds_data_is_refused_and_left_alone(source: SqlLedger, url: str):
    await source.add(instance(0), NOW)
    await copy(source.database, url)
    await source.add(instance(1), NOW)
    with pytest.raises(DstackError, match="not empty"):
        await copy(source.database, url)
    target = Database(url)
    try:
        assert await SqlLedger(Store(target, no_offers)).get(instance(1).ref) is None
    finally:
        await target.close()
