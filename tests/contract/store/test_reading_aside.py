"""Reads of those who come by thousands at once never take all connections."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from support.ledger import SqlLedger

CROWD = 50
DEADLINE_S = 30.0


async def test_others_read_while_a_crowd_reads_aside_and_all_of_the_crowd_have_their_turn(ledger: SqlLedger):
    database, go = ledger.database, asyncio.Event()
    inside = 0

    async def one_of_many() -> None:
        nonlocal inside
        async with database.read_aside() as connection:
            inside += 1
            await go.wait()
            await connection.execute(text("SELECT 1"))

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(one_of_many())
        while not inside:
            await asyncio.sleep(0)
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
        assert inside < CROWD
        go.set()
    assert inside == CROWD
