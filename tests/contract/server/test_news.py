"""What servers tell one another, over a real PostgreSQL; and the numbers of watchers, which only their giver knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from dstack.server.store.changes import Changes
from dstack.server.store.news import EVERYTHING, MANY, News, payloads
from support import postgres

PATIENCE_S = 30.0
# Those of this database, and not autovacuum, which comes when it likes.
OTHERS = "pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'"


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def url(postgres_server: str) -> str:
    return postgres.new_database(postgres_server)


def database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


class Server:
    """One that listens: what it heard, and how often it may have missed something."""

    def __init__(self, url: str, name: str):
        self.heard: list[str] = []
        self.missed = 0
        self.something = asyncio.Event()
        self.news = News(url, name, self._hear, self._miss, retry_s=0.05)

    def _hear(self, topics: Sequence[str]) -> None:
        self.heard += topics
        self.something.set()

    def _miss(self) -> None:
        self.missed += 1
        self.something.set()

    async def until(self, topic: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while topic not in self.heard:
                self.something.clear()
                await self.something.wait()

    async def until_missed(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.missed < times:
                self.something.clear()
                await self.something.wait()


@asynccontextmanager
async def listening(*servers: Server) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one.news.run()) for one in servers]
    try:
        for one in servers:
            await one.until_missed(1)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_one_server_tells_the_others_hear_and_itself_does_not(url: str):
    a, b = Server(url, "a"), Server(url, "b")
    async with listening(a, b):
        a.news.alone = False
        a.news.tell(["run:1", "log:2"])
        await b.until("run:1")
        await b.until("log:2")
        await b.news.say("run:3")
        await a.until("run:3")  # news come in the order in which they were told: by now it would have heard its own
        assert "run:1" not in a.heard


async def test_a_server_that_hears_another_one_knows_that_it_is_not_alone(url: str):
    a, b = Server(url, "a"), Server(url, "b")
    async with listening(a), listening(b):
        await a.until("hello")
        assert not a.news.alone


async def test_a_server_that_is_alone_sends_nothing(url: str):
    a, b = Server(url, "a"), Server(url, "b")
    async with listening(b):
        a.news.tell(["run:lost"])
        async with listening(a):
            a.news.alone = False
            a.news.tell(["run:kept"])
            await b.until("run:kept")  # with all that was to be sent
    assert "run:lost" not in b.heard


async def test_after_a_broken_connection_everything_counts_as_missed_and_news_go_on(url: str):
    a, b = Server(url, "a"), Server(url, "b")
    async with listening(a, b):
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}"
        assert await connection.fetch(ended)
        await connection.close()
        await b.until_missed(3)  # when it broke, and when it was there again
        await a.until_missed(3)
        a.news.alone = False
        a.news.tell(["run:after"])
        await b.until("run:after")


async def test_a_database_that_is_away_is_told_once_and_so_is_its_return(
    postgres_server: str, caplog: pytest.LogCaptureFixture
):
    a = Server(database(postgres_server, "late"), "a")
    async with listening(a):
        await a.until_missed(4)
        connection = await asyncpg.connect(database(postgres_server, "postgres").replace("+asyncpg", ""))
        await connection.execute("CREATE DATABASE late")
        await connection.close()
        async with asyncio.timeout(PATIENCE_S):
            while not a.news.connected:
                await a.until_missed(a.missed + 1)
    said = [r.getMessage() for r in caplog.records]
    assert said == [
        "servers cannot wake one another: InvalidCatalogNameError; trying again", "servers wake one another again"
    ]  # fmt: skip


async def test_what_is_told_while_the_connection_breaks_is_heard_when_it_is_there_again(url: str):
    a, b = Server(url, "a"), Server(url, "b")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    async with listening(a):
        own = await connection.fetchval(f"SELECT pid FROM pg_stat_activity WHERE {OTHERS}")
        async with listening(b):
            a.news.alone = False
            await connection.fetch("SELECT pg_terminate_backend($1)", own)
            a.news.tell(["run:between"])
            await b.until("run:between")
            assert b.missed == 1, "nobody told it to look at everything"
    await connection.close()


async def test_what_cannot_be_told_for_long_does_not_grow_without_end(url: str):
    a, b = Server(url, "a"), Server(url, "b")
    a.news.alone = False
    for n in range(3 * MANY):
        a.news.tell([f"run:{n}"])
    async with listening(b):
        seen = b.missed
        async with listening(a):
            await b.until_missed(seen + 1)
    assert not any(topic.startswith("run:") for topic in b.heard)


def test_payloads_fit_into_a_notification_and_lose_nothing():
    topics = {f"job:{n:036}" for n in range(MANY)}
    texts = payloads("me", topics)
    assert all(len(text) < 8000 for text in texts)
    assert {topic for text in texts for topic in text.split(" ")[1:]} == topics
    assert payloads("me", topics | {"one:more"}) == [f"me {EVERYTHING}"]


async def test_a_number_that_another_server_gave_does_not_make_a_watcher_wait():
    here, elsewhere = Changes(1000.0), Changes(2000.000001)
    assert elsewhere.seq(["run:1"]) > here.seq(["run:1"])
    async with asyncio.timeout(PATIENCE_S):
        assert await here.wait(elsewhere.seq(["run:1"]), ["run:1"], 3600.0) == here.seq(["run:1"])


async def test_watchers_are_woken_by_what_other_servers_publish_and_by_what_may_have_been_missed():
    changes = Changes(1000.0)
    for wake in (lambda: changes.heard(["run:1"]), changes.missed):
        seen = changes.seq(["run:1"])
        waiting = asyncio.ensure_future(changes.wait(seen, ["run:1"], 3600.0))
        await asyncio.sleep(0)
        wake()
        async with asyncio.timeout(PATIENCE_S):
            assert await waiting > seen


def test_what_is_heard_is_not_told_on():
    told: list[str] = []
    changes = Changes(1000.0, told.extend)
    changes.heard(["run:theirs"])
    changes.publish(["run:ours"])
    assert told == ["run:ours"]
