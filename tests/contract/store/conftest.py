"""The stores under the commit contract: the production one on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dstack.model.offer import Offer
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.store import Store
from support.ledger import Ledger, SqlLedger


async def no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    await upgrade(url)
    database = Database(url)
    yield SqlLedger(Store(database, no_offers))
    await database.close()
