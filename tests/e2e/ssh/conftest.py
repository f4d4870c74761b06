"""Test hosts, and the product's way to them."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dstack.agent.bundle import build
from dstack.agentapi.client import AgentClient
from dstack.model.host import Hop, RemoteHost
from dstack.ssh.host import Credentials, Onboarded, PinnedKeys, Unfit
from dstack.ssh.hosts import SshHosts
from support.hosts import Hosts
from support.hosts_one import SUDOER, TestHost

DEADLINE_S = 60.0


class Reach:
    """The product's connections to test hosts; at the end every host that was taken in is left again."""

    def __init__(self, all_: Hosts, bundle: Path):
        self.ssh = SshHosts()
        self.bundle = bundle
        self.key = all_.key.read_text()
        self._hosts = all_
        self._taken_in: dict[str, tuple[RemoteHost, PinnedKeys, TestHost]] = {}

    def at(self, host: TestHost, user: str = SUDOER, **more: Any) -> RemoteHost:
        return RemoteHost(hop=Hop(hostname=host.address, user=user), **more)

    async def onboard(
        self,
        host: TestHost,
        id: str = "",
        *,
        user: str = SUDOER,
        key: str = "",
        proxy: TestHost | None = None,
        pinned: PinnedKeys | None = None,
        bundle: Path | None = None,
        label: str = "fleet one of http://127.0.0.1:3000",
        **more: Any,
    ) -> tuple[str, Onboarded | Unfit]:
        """(id, outcome)."""
        id = id or str(uuid.uuid4())
        if proxy is not None:
            more["proxy"] = Hop(hostname=proxy.address, user=SUDOER)
        at = self.at(host, user, **more)
        async with asyncio.timeout(DEADLINE_S):
            done = await self.ssh.onboard(
                id, at, self.credentials(key), pinned or PinnedKeys(), bundle or self.bundle, label
            )
        if isinstance(done, Onboarded):
            self._taken_in[id] = (at, done.pinned, host)
        return id, done

    async def ready(self, host: TestHost, **more: Any) -> tuple[str, Onboarded]:
        """Onboard, and it must succeed."""
        id, done = await self.onboard(host, **more)
        assert isinstance(done, Onboarded), done
        return id, done

    def credentials(self, key: str = "") -> Credentials:
        return Credentials(key or self.key, self.key)

    def way(self, id: str) -> tuple[str, RemoteHost, Credentials, PinnedKeys]:
        """The first arguments of each call about a host that was taken in."""
        at, pinned, _ = self._taken_in[id]
        return id, at, self.credentials(), pinned

    async def client(self, id: str) -> AgentClient:
        at, pinned, _ = self._taken_in[id]
        async with asyncio.timeout(DEADLINE_S):
            return AgentClient(await self.ssh.agent(id, at, self.credentials(), pinned))

    async def offboard(self, id: str) -> None:
        at, pinned, _ = self._taken_in[id]
        async with asyncio.timeout(DEADLINE_S):
            await self.ssh.offboard(id, at, self.credentials(), pinned)

    def lost(self, id: str) -> None:
        """Nothing of it need be cleaned up."""
        del self._taken_in[id]

    async def aclose(self) -> None:
        try:
            for id in list(self._taken_in):
                await self.offboard(id)
        finally:
            await self.ssh.aclose()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's zipapp of this source tree."""
    return build(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
async def reach(hosts: Hosts, bundle: Path) -> AsyncIterator[Reach]:
    async with contextlib.aclosing(Reach(hosts, bundle)) as reach:
        yield reach
