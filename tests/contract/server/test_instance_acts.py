"""Acts on machines, carried out on a backend that does what no backend should."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dstack.backends.base import BackendContext, CreateResult, InstanceOrder
from dstack.backends.registry import Registry
from dstack.backends.sim.backend import SimBackend
from dstack.backends.sim.config import SimConfig
from dstack.clock import WallClock
from dstack.model.instance import InstanceStatus
from dstack.model.observation import CreateFailed
from dstack.model.offer import Offer
from dstack.model.row import Ref
from dstack.server.auth.cipher import Cipher
from dstack.server.effects.acts import Again, Done
from dstack.server.effects.instances import CREATE_TRIES, InstanceEffects
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.bootstrap import ensure
from dstack.server.services.rows import insert_rows
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.store import Store
from support import builders

KEY = "key-4711"


class Surprising(SimBackend):
    """Its library fails in a way that nobody foresaw."""

    async def create_instance(self, order: InstanceOrder) -> CreateResult:
        raise KeyError(KEY)


async def no_offers(_project_id: str) -> tuple[Offer, ...]:
    return ()


@pytest.fixture
async def effects(tmp_path: Path) -> AsyncIterator[InstanceEffects]:
    url, clock, cipher = f"sqlite:///{tmp_path / 'server.db'}", WallClock(), Cipher(bytes(32))
    await upgrade(url)
    database = Database(url)
    await ensure(database, cipher, 1.0, "main")
    context = BackendContext(tmp_path, lambda: tmp_path, "python3", clock)
    own = {"sim": Surprising(SimConfig(), context)}
    backends = ProjectBackends(database, cipher, clock, Registry.installed(), own, context)
    machine = builders.instance(status=InstanceStatus.PROVISIONING)
    async with database.write() as connection:
        await insert_rows(connection, [builders.fleet()], 1.0)
        await insert_rows(connection, [machine], 1.0)
    yield InstanceEffects(Store(database, no_offers), backends, clock)
    await database.close()


def create(attempts: int) -> ClaimedAct:
    return ClaimedAct(Ref("instance", builders.instance().id), "create_instance", "t", {}, attempts, 1.0, "me", 1)


async def test_an_order_that_fails_as_nobody_foresaw_is_given_up_after_some_tries(effects: InstanceEffects):
    assert isinstance(await effects.create(create(0)), Again)
    outcome = await effects.create(create(CREATE_TRIES - 1))
    assert isinstance(outcome, Done)
    assert [type(observation) for _, observation in outcome.seen] == [CreateFailed]


async def test_what_a_providers_library_says_stays_out_of_the_log(
    effects: InstanceEffects, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG):
        await effects.create(create(0))
    assert "could not create f-0" in caplog.text and KEY not in caplog.text
