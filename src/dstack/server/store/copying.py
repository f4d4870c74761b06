"""Copies a whole database into an empty one of another kind: from SQLite to PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, Table, func, insert, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError
from dstack.server.store.database import Database
from dstack.server.store.migrate import COMPATIBLE, upgrade
from dstack.server.store.tables import metadata

CHUNK = 1000


async def copy(source: Database, target_url: str) -> dict[str, int]:
    """Rows copied, by table. Raises DstackError when the target holds data; it is left as it was then.

    The source is read in one consistent view; everything is written in one transaction, so that a copy which fails
    leaves nothing behind.
    """
    await upgrade(target_url)
    target = Database(target_url)
    try:
        async with source.read() as reading, target.write() as writing:
            await _refuse_unless_empty(writing)
            counts = {}
            for table in metadata.sorted_tables:
                counts[table.name] = await _copy_table(reading, writing, table)
            await _continue_sequences(writing)
            return counts
    finally:
        await target.close()


async def _refuse_unless_empty(connection: AsyncConnection) -> None:
    for table in metadata.sorted_tables:
        if (await connection.execute(select(func.count()).select_from(table).where(_contents(table)))).scalar():
            raise DstackError(
                f"The target database is not empty: the table {table.name} has rows",
                hint="make a fresh database for the copy",
            )


async def _copy_table(reading: AsyncConnection, writing: AsyncConnection, table: Table) -> int:
    key = list(table.primary_key.columns)
    rows = (await reading.execute(select(table).where(_contents(table)).order_by(*key))).mappings()
    count = 0
    for chunk in rows.partitions(CHUNK):
        values = [dict(row) for row in chunk]
        for row in values:
            if "claimed_by" in row:  # nobody works on the copy yet
                row.update(claimed_by=None, claim_until=None)
        await writing.execute(insert(table), values)
        count += len(values)
    return count


def _contents(table: Table) -> Any:
    """The condition of rows that are not of the schema itself."""
    return table.c.key != COMPATIBLE if table.name == "meta" else true()


async def _continue_sequences(connection: AsyncConnection) -> None:
    """Numbers that the database gives out go on after the copied ones."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            if isinstance(column.type, Integer) and column.autoincrement is True:
                name = f'"{table.name}"'
                await connection.execute(
                    text(
                        f"SELECT setval(pg_get_serial_sequence(:table, :column), "
                        f"(SELECT coalesce(max({column.name}), 0) + 1 FROM {name}), false)"
                    ),
                    {"table": name, "column": column.name},
                )
