"""Real servers in virtual time over databases whose every statement takes long: all goes on, only later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from dstack.control.snapshots import Snapshot
from dstack.model.offer import Offer
from dstack.model.row import Ref
from dstack.server.effects.presence import Presence
from dstack.server.engine.loop import Dispatch, Engine
from dstack.server.store import servers
from dstack.server.store.changes import Changes
from dstack.server.store.migrate import upgrade
from dstack.server.store.news import News
from dstack.server.store.servers import Member
from dstack.server.store.store import Store
from dstack.server.store.tables import server
from support import builders, postgres
from support.ledger import SqlLedger
from support.slow_databases import SlowDatabase
from support.story import Told, tell
from support.virtual_time import START, VirtualClock, in_virtual_time, virtual_loop
from support.watching import VirtualDatabase, set_clock

pytestmark = pytest.mark.timeout(600)  # of a busy machine; a story takes some seconds
TURN_S = 40.0  # longer than a claim holds
LATE_S = 60.0  # longer than a beat and a pause on the slowest database here


class VerySlow(SlowDatabase):
    """Saying that one lives takes longer than the lease of a server, on a database that is quick."""

    statement_s = 2.5


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[str]:
    with postgres.running() as server:
        yield server


def explained(told: Told) -> str:
    return f"seed {told.seed}: {'; '.join(told.broken)}"


def silences(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What servers say of others, or of themselves, that they take for dead."""
    return [m for r in caplog.records if "silent" in (m := r.getMessage())]


def test_every_run_ends_over_a_slow_sqlite_file(tmp_path: Path):
    told = tell(1, tmp_path / "story", database=SlowDatabase, minutes=2.0, slow=0.0, deadly=False)
    assert not told.broken, explained(told)
    assert told.statuses["done"] > 0


async def _beating(url: str) -> None:
    """Two servers that do nothing but tell that they live, for two minutes."""
    database = VerySlow(url)
    store, clock, changes = Store(database, _no_offers), VirtualClock(virtual_loop()), Changes(START)
    members = [Member(name, name, name, "1") for name in ("a", "b")]
    for me in members:
        async with database.write() as connection:
            await servers.join(connection, me, clock.now())
    beats: list[asyncio.Task[None]] = []
    for me in members:
        news = News(url, me.id, lambda _: None, lambda: None)
        presence = Presence(store, me, clock, changes, news, lambda: None, lambda: None, lambda: asyncio.sleep(0))
        beats.append(asyncio.ensure_future(presence.run()))
        # Not in step: one looks just when the other's lease is over and its next transaction has not begun.
        await asyncio.sleep(2.0)
    await asyncio.sleep(120.0)
    assert not [one for one in beats if one.done()]
    async with database.read() as connection:
        seen = (await connection.execute(select(server.c.last_seen).order_by(server.c.id))).scalars().all()
    assert [clock.now() - at < LATE_S for at in seen] == [True, True], "both have said so, again and again"
    for one in beats:
        one.cancel()
    await asyncio.gather(*beats, return_exceptions=True)
    await database.close()


def test_servers_of_a_slow_postgresql_do_not_take_one_another_for_dead(
    postgresql_server: str, caplog: pytest.LogCaptureFixture
):
    url = postgres.new_database(postgresql_server)
    asyncio.run(set_clock(url))
    asyncio.run(upgrade(url))
    in_virtual_time(_beating(url), outside=True)
    assert silences(caplog) == []


class SlowStore(Store):
    async def load(self, refs: Sequence[Ref]) -> dict[Ref, Snapshot]:
        await asyncio.sleep(TURN_S)
        return await super().load(refs)


async def _no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


async def _overtaken(url: str) -> None:
    await upgrade(url)
    database = VirtualDatabase(url)
    ledger, clock = SqlLedger(SlowStore(database, _no_offers)), VirtualClock(virtual_loop())
    fleet = builders.fleet()
    await ledger.add(fleet, START)
    nothing = Dispatch(lambda: None, lambda _: None, lambda _: None)
    engines = [Engine(ledger.store, clock, name, nothing, lambda: 1.0) for name in ("a", "b")]
    running = [asyncio.ensure_future(engine.run()) for engine in engines]
    try:
        async with asyncio.timeout(20 * TURN_S):
            while (await ledger.due_at(fleet.ref)) == START:
                await asyncio.sleep(1.0)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await database.close()


def test_servers_whose_turns_are_longer_than_a_claim_do_not_take_rows_from_one_another_for_ever(tmp_path: Path):
    in_virtual_time(_overtaken(f"sqlite:///{tmp_path / 'store.db'}"))
