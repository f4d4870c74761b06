"""A server whose database goes away while it starts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError
from dstack.server.app import running
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from support.yard import SetClock

MOST = 40  # transactions of one start


def leaving(after: int) -> type[Database]:
    """One that carries out so many transactions that write, and then no more."""

    class Leaving(Database):
        left = after

        @asynccontextmanager
        async def write(self) -> AsyncIterator[AsyncConnection]:
            if self.left == 0:
                raise self.trouble.happened("it does not answer")
            self.left -= 1
            async with super().write() as connection:
                yield connection

    return Leaving


async def starts(settings: Settings, database: type[Database]) -> bool:
    """Raises whatever the start raises."""
    started = False
    async with running(settings, SetClock(), database_class=database):
        started = True
    return started


async def test_whichever_transaction_of_the_start_fails_a_person_is_told_why(tmp_path: Path):
    (tmp_path / "config.yml").write_text("projects: [{name: main, backends: [{type: sim}]}]\n")
    settings = Settings(data_dir=tmp_path, local_backend=False)
    told = 0
    for after in range(MOST):
        try:
            assert await starts(settings, leaving(after))
            break
        except DstackError as e:
            told += 1
            assert "it does not answer" in e.message
            assert e.hint
    assert 2 <= told < MOST
