"""The stores under the commit contract: the production one on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dstack.model.offer import Offer
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.store import Store
from support import postgres
from support.ledger import Ledger, SqlLedger
from support.yard import Yard


async def no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return postgres.new_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[Ledger]:
    await upgrade(url)
    database = Database(url)
    yield SqlLedger(Store(database, no_offers))
    await database.close()


@pytest.fixture
async def yard(url: str, tmp_path: Path) -> AsyncIterator[Yard]:
    await upgrade(url)
    database = Database(url)
    made = Yard(database, tmp_path)
    await made.open()
    yield made
    await made.backends.aclose()
    await database.close()
