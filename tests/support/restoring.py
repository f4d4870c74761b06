"""A database of PostgreSQL that every test finds as the first one did: its rows are put back, which is fast."""

from __future__ import annotations

import asyncio
from typing import Any

from dstack.server.store.tables import metadata


class Restored:
    """Remembers all rows of the database at `url` as they are now. One test at a time may use it."""

    def __init__(self, url: str):
        self._url = url.replace("+asyncpg", "")
        self._rows: dict[str, list[Any]] = asyncio.run(self._read())

    async def put_back(self) -> None:
        """What was written since then is gone. Nobody else may have a transaction open."""
        import asyncpg

        # A new copy of the database for each test would take ten times as long, and its removal too.
        wipe = ";".join(f'DELETE FROM "{table.name}"' for table in reversed(metadata.sorted_tables))
        connection = await asyncpg.connect(self._url)
        try:
            async with connection.transaction():
                await connection.execute(wipe)
                for name, rows in self._rows.items():
                    await connection.copy_records_to_table(name, records=[tuple(row.values()) for row in rows])
        finally:
            await connection.close()

    async def _read(self) -> dict[str, list[Any]]:
        import asyncpg

        connection = await asyncpg.connect(self._url)
        try:
            found = {t.name: await connection.fetch(f'SELECT * FROM "{t.name}"') for t in metadata.sorted_tables}
        finally:
            await connection.close()
        return {name: rows for name, rows in found.items() if rows}
