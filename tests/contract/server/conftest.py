"""One database, and one host where it is asked for, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dstack.agent.bundle import build
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from support.live_host import Host


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'server.db'}"
    await upgrade(url)
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture
async def host(tmp_path: Path, bundle: Path, database: Database) -> AsyncIterator[Host]:
    host = Host(tmp_path, bundle, database)
    await host.create()
    try:
        yield host
    finally:
        await host.backend.terminate_instance(host.instance.token, host.instance.data)
