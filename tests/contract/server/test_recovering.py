"""A database that could not be used for a moment: work goes on as soon as it can be written, told or not."""

from __future__ import annotations

import asyncio

from dstack.server.recovery import Recovery
from dstack.server.store.database import Database

PATIENCE_S = 30.0


async def test_everything_is_looked_at_again_when_the_database_is_back(database: Database):
    back = asyncio.Event()
    running = asyncio.ensure_future(Recovery(database, back.set).run())
    try:
        database.trouble.happened("it does not answer")
        async with asyncio.timeout(PATIENCE_S):
            await back.wait()
        assert database.trouble.words is None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
