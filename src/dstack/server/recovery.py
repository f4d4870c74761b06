"""Finds out when a database that could not be used can be written again, and has the work go on at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from dstack.ids import new_id
from dstack.server.store.database import Database
from dstack.server.store.tables import meta
from dstack.server.store.trouble import DatabaseUnavailable

TRY_S = 1.0
_KEY = "last_recovery"
_PADDING = 32 * 1024  # a disk that has room for a row of a few bytes may still have none for a job


class Recovery:
    """`back` is called when it is: a commit whose answer was lost may have made anything due."""

    def __init__(self, database: Database, back: Callable[[], None]):
        self._database = database
        self._back = back

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._database.trouble.began.wait()
            await asyncio.sleep(TRY_S)
            try:
                await self._write()
            except DatabaseUnavailable:
                continue
            self._database.trouble.over()
            self._back()

    async def _write(self) -> None:
        """A real one: a transaction that changes nothing succeeds on a full disk."""
        insert = sqlite_insert if self._database.sqlite else pg_insert
        async with self._database.write() as connection:
            for value in (new_id().encode() * (_PADDING // 36), b""):
                made = insert(meta).values(key=_KEY, value=value)
                await connection.execute(made.on_conflict_do_update(index_elements=["key"], set_={"value": value}))
