"""Connections to PostgreSQL: so many and no more, and those that have died are replaced unnoticed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dstack.server.store.database import Database
from dstack.server.store.pool import SIZE, keep_alive
from support import postgres
from support.slow_databases import Link

ONE = text("SELECT 1")


@pytest.fixture(scope="module")
def own() -> Iterator[postgres.Own]:
    with tempfile.TemporaryDirectory(prefix="dstack-pg-") as folder:
        one = postgres.Own(Path(folder))
        one.start()
        try:
            yield one
        finally:
            one.stop()


@pytest.fixture
async def database(own: postgres.Own) -> AsyncIterator[Database]:
    database = Database(await asyncio.to_thread(postgres.new_database, own.url))
    yield database
    await database.close()


async def ask(database: Database) -> int:
    async with database.read() as connection:
        return (await connection.execute(ONE)).scalar_one()


async def test_connections_of_before_a_restart_are_replaced_and_nobody_hears_of_it(
    own: postgres.Own, database: Database
) -> None:
    await asyncio.gather(*(ask(database) for _ in range(SIZE)))
    await asyncio.to_thread(own.stop)
    await asyncio.to_thread(own.start)
    assert await asyncio.gather(*(ask(database) for _ in range(3 * SIZE))) == [1] * 3 * SIZE


async def test_no_more_than_so_many_connections_are_open(database: Database) -> None:
    # Not autovacuum, which comes when it likes.
    ours = "datname = current_database() AND backend_type = 'client backend'"
    opened = text(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}")

    async def asker() -> int:
        async with database.read() as connection:
            return (await connection.execute(opened)).scalar_one()

    assert max(await asyncio.gather(*(asker() for _ in range(10 * SIZE)))) <= SIZE


async def ask_again(engine: AsyncEngine, link: Link) -> int:
    one = 0
    for _ in range(2):
        async with engine.connect() as connection:
            one = (await connection.execute(ONE)).scalar_one()
        link.forget()
    return one


async def test_a_connection_that_the_network_forgot_is_replaced_when_it_has_rested(own: postgres.Own) -> None:
    with tempfile.TemporaryDirectory(prefix="dstack-link-") as folder:
        link = Link(Path(folder), own.base)
        async with link.running():
            engine = create_async_engine(link.url.replace("/?", "/postgres?"), pool_size=1, max_overflow=0)
            with pytest.raises(DBAPIError):
                await ask_again(engine, link)
            keep_alive(engine.sync_engine, rested_s=0.0)
            assert await ask_again(engine, link) == 1
            await engine.dispose()
