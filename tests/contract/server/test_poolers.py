"""A pooler between the server and PostgreSQL: one that keeps sessions serves, another is refused at the start."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dstack.errors import DstackError
from dstack.server.doctor.examine import examine
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from dstack.server.store.direct import NO_SESSIONS, check_sessions
from dstack.server.store.news import News
from support import pgbouncer, postgres
from support.faulty import FLEET, remove_fleet, server
from support.http_api import ended, first_start, settings_in, task
from support.yard import SetClock

PATIENCE_S = 60.0
WITHOUT_SESSIONS = ("transaction", "statement")
# Connections that became free serve the next who comes, or the one who waits for the longest.
ORDERS = ("", "server_round_robin = 1")


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[postgres.Own, Path]]:
    with tempfile.TemporaryDirectory(prefix="dstack-pg-") as folder:
        one = postgres.Own(Path(folder))
        one.start()
        try:
            yield one, Path(folder)
        finally:
            one.stop()


@pytest.fixture
def sessions(own: tuple[postgres.Own, Path]) -> Iterator[str]:
    with pgbouncer.pooled(own[1], "session") as url:
        yield url.replace("/?", "/postgres?")


async def test_a_server_works_behind_a_pooler_that_keeps_sessions(own: tuple[postgres.Own, Path], tmp_path: Path):
    with pgbouncer.pooled(own[1], "session") as url:
        first = await asyncio.to_thread(first_start, tmp_path / "server", url)
        async with server(settings_in(first.folder, first.database_url)) as api:
            await api.call("fleets/apply", {"plan": {"spec": FLEET}})
            await api.call("runs/apply", {"plan": {"run_spec": task("echo here", name="r")}})
            assert (await ended(api, "r"))["status"] == "done"
            await remove_fleet(api)


async def test_postgresql_gives_up_by_itself_behind_a_pooler_too(sessions: str):
    database = Database(sessions, patience_s=7.0)
    try:
        async with database.write() as connection:
            found = [
                (await connection.execute(text(f"SHOW {name}"))).scalar()
                for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
            ]
        assert found == ["7s", "9s", "5s"]
    finally:
        await database.close()


async def test_servers_hear_one_another_through_a_pooler_that_keeps_sessions(sessions: str):
    heard, ready = asyncio.Event(), asyncio.Event()
    listener = News(sessions, "a", lambda topics: heard.set() if "run:1" in topics else None, ready.set)
    task_ = asyncio.ensure_future(listener.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await ready.wait()
            await News(sessions, "b", lambda _: None, lambda: None).say("run:1")
            await heard.wait()
    finally:
        task_.cancel()
        await asyncio.gather(task_, return_exceptions=True)


@pytest.mark.parametrize("mode", WITHOUT_SESSIONS)
@pytest.mark.parametrize("order", ORDERS)
async def test_a_pooler_that_keeps_no_sessions_is_found_out(own: tuple[postgres.Own, Path], mode: str, order: str):
    with pgbouncer.pooled(own[1], mode, order) as url, pytest.raises(DstackError, match=NO_SESSIONS) as refused:
        await check_sessions(url.replace("/?", "/postgres?"))
    assert "pool_mode = session" in (refused.value.hint or "")


@pytest.mark.parametrize("order", ORDERS)
async def test_a_pooler_that_keeps_sessions_is_not_taken_for_another(own: tuple[postgres.Own, Path], order: str):
    with pgbouncer.pooled(own[1], "session", order) as url:
        for _ in range(3):
            await check_sessions(url.replace("/?", "/postgres?"))


async def test_neither_a_server_nor_the_doctor_takes_a_pooler_without_sessions_for_good(
    own: tuple[postgres.Own, Path], tmp_path: Path
):
    with pgbouncer.pooled(own[1], "transaction") as url:
        settings = Settings(data_dir=tmp_path, database_url=url.replace("/?", "/postgres?"), port=1)
        with pytest.raises(DstackError, match=NO_SESSIONS):
            async with server(settings):
                pass
        found = {one.name: one for one in await examine(settings, SetClock())}
    assert not found["database"].ok
    assert found["database"].message == NO_SESSIONS
