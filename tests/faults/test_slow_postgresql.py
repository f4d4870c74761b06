"""PostgreSQL is there but slow: locked by another program, or behind a network that swallows what is sent."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.clock import WallClock
from dstack.server.app import running
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from support import postgres
from support.faulty import DEADLINE_S, FLEET, healthy, names_of_runs, remove_fleet, said, server
from support.http_api import TOKEN, Api, client_of, ended, first_start, reached, settings_in, task
from support.slow_databases import Link

SLOW = "the database is slow: a statement has not been answered for "
ANSWERED_WITHIN_S = 13.5  # 6 until it is given up, 2 to end the connection; asyncpg alone: 14 at least
CLOSED_WITHIN_S = 30.0  # a tenth of what waiting for each connection takes
pytestmark = pytest.mark.timeout(300)


LOSES: ContextVar[bool] = ContextVar("loses", default=False)


class Impatient(Database):
    def __init__(self, url: str):
        super().__init__(url, patience_s=1.0)


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
async def linked(own: tuple[postgres.Own, Path], tmp_path: Path) -> AsyncIterator[tuple[Settings, Link]]:
    """The settings of a server whose PostgreSQL is behind a link."""
    with tempfile.TemporaryDirectory(prefix="dstack-link-") as folder:
        first = await asyncio.to_thread(first_start, tmp_path / "server", own[0].url)
        link = Link(Path(folder), own[1])
        database = str(first.database_url).split("?")[0].rsplit("/", 1)[1]
        async with link.running():
            yield settings_in(first.folder, link.url.replace("/?", f"/{database}?")), link


@asynccontextmanager
async def impatient(settings: Settings, kind: type[Database] = Impatient) -> AsyncIterator[Api]:
    async with running(settings, WallClock(), database_class=kind) as started, client_of(started.parts) as http:
        yield Api(http, started.parts, TOKEN)


async def submit(api: Api, name: str, *commands: str) -> Any:
    return await api.raw("runs/apply", {"plan": {"run_spec": task(*commands, name=name)}})


def waiting_for(go: Path, starts: Path) -> str:
    return f"echo $DSTACK_RUN_NAME >> {starts}; while [ ! -e {go} ]; do sleep 0.05; done"


async def test_requests_are_answered_when_nothing_comes_back_and_all_goes_on_when_it_does(
    tmp_path: Path, linked: tuple[Settings, Link], caplog: pytest.LogCaptureFixture
):
    settings, link = linked
    go, starts = tmp_path / "go", tmp_path / "starts"
    async with impatient(settings) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        assert (await submit(api, "through", waiting_for(go, starts))).status_code == 200
        await reached(api, "through", "running")
        link.open = False
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_S):
            answers = await asyncio.gather(*(submit(api, f"refused-{n}") for n in range(6)))
        assert {answer.status_code for answer in answers} == {503}
        assert time.monotonic() - began < ANSWERED_WITHIN_S
        assert (await healthy(api, status=503))["detail"][0]["msg"].startswith("The database cannot be used: ")
        go.touch()  # the job ends while nobody can write so
        link.open = True
        await healthy(api)
        assert (await submit(api, "after")).status_code == 200
        for name in ("through", "after"):
            assert (await ended(api, name))["status"] == "done"
        assert starts.read_text() == "through\n"
        assert await names_of_runs(api) == {"through", "after"}
        await remove_fleet(api)
    assert said(caplog, "the database cannot be used: it does not answer") == 1


async def test_a_database_that_does_not_answer_does_not_keep_the_server_from_ending(linked: tuple[Settings, Link]):
    settings, link = linked
    database = Database(settings.resolved_database_url)
    async with database.read() as one, database.read() as other, database.write() as writing:
        for connection in (one, other, writing):
            await connection.execute(text("SELECT 1"))
    link.open = False
    async with asyncio.timeout(CLOSED_WITHIN_S):
        await database.close()


def forgetful(link: Link) -> type[Database]:
    """The answer to the commit of whoever set `LOSES` is lost, and all that come after it."""

    class Forgetful(Impatient):
        @asynccontextmanager
        async def write(self) -> AsyncIterator[AsyncConnection]:
            async with super().write() as connection:
                yield connection
                link.deaf_to_answers = link.deaf_to_answers or LOSES.get()

    return Forgetful


async def test_who_did_not_hear_of_a_commit_is_told_so_and_what_was_kept_is_carried_out(linked: tuple[Settings, Link]):
    settings, link = linked
    async with impatient(settings, forgetful(link)) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        losing = LOSES.set(True)
        async with asyncio.timeout(DEADLINE_S):
            answer = await submit(api, "r")
        LOSES.reset(losing)
        link.deaf_to_answers = False
        assert answer.status_code == 503
        assert answer.json()["hint"].startswith("nobody knows whether it was done")
        assert "retry-after" not in answer.headers, "who asked again would have it done twice"
        await healthy(api)
        assert (await ended(api, "r"))["status"] == "done"
        await remove_fleet(api)


async def test_rows_that_another_program_locks_are_waited_for_and_then_refused_in_words(
    linked: tuple[Settings, Link], caplog: pytest.LogCaptureFixture
):
    settings, _ = linked
    other = await asyncpg.connect(settings.resolved_database_url.replace("+asyncpg", ""))
    async with server(settings) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        async with other.transaction():
            await other.execute("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")
            submitting = asyncio.ensure_future(submit(api, "waits"))
            async with asyncio.timeout(DEADLINE_S):
                while not (await healthy(api)).get("x_slow", "").startswith(SLOW):
                    await asyncio.sleep(0.1)
        assert (await submitting).status_code == 200
        assert (await ended(api, "waits"))["status"] == "done"
        async with other.transaction():
            await other.execute("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(DEADLINE_S):
                refused = await submit(api, "refused")
            assert refused.status_code == 503
            assert "another program keeps its rows or tables locked" in refused.json()["detail"][0]["msg"]
        await healthy(api)
        assert (await submit(api, "after")).status_code == 200
        assert (await ended(api, "after"))["status"] == "done"
        assert await names_of_runs(api) == {"waits", "after"}
        await remove_fleet(api)
    await other.close()
    assert said(caplog, SLOW) == 1
