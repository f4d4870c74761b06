"""Hosts whose holder did not hear from the database what became of them: it lives, so nobody else would take them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import pytest

from dstack.server.store.database import Database
from dstack.server.store.host_links import Hold
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable
from support.live_host import Host


class Unlucky(Store):
    """The answer to the first time that hosts are taken is lost, and the first time that some are given back fails."""

    _lost = _failed = False

    async def take_links(self, server_id: str, ids: Sequence[str]) -> list[Hold]:
        holds = await super().take_links(server_id, ids)
        if holds and not self._lost:
            self._lost = True
            raise DatabaseUnavailable("the answer was lost", unsure=True)
        return holds

    async def give_back_links(self, holds: Collection[Hold]) -> None:
        self._failed = True
        raise DatabaseUnavailable("it does not answer")

    async def link_counts(self) -> dict[str, int]:
        """As if this server held more than its share until then."""
        counts = await super().link_counts()
        return {"me": counts["me"] + 1} if counts and not self._failed else counts


@pytest.fixture
async def unlucky(tmp_path: Path, bundle: Path, database: Database) -> AsyncIterator[Host]:
    host = Host(tmp_path, bundle, database, Unlucky, others=("another",))
    await host.create()
    try:
        yield host
    finally:
        await host.backend.terminate_instance(host.instance.token, host.instance.data)


async def test_a_host_is_linked_though_the_answer_to_taking_it_was_lost(unlucky: Host):
    async with unlucky.linked():
        pass


async def test_a_host_that_could_not_be_given_back_is_linked_again(unlucky: Host):
    async with unlucky.linked():
        with pytest.raises(DatabaseUnavailable):
            await unlucky.links.even_out()
        await unlucky.until(lambda: _linked_again(unlucky))


async def _linked_again(host: Host) -> bool:
    return sum(seen.startswith('{"type":"link_up"') for seen in await host.heard(host.instance.id)) > 1
