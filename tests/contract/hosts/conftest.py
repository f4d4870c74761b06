"""Hosts that pretend, and test hosts over real sshd: the same faults can be done to both."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from dstack.agent.bundle import build
from dstack.agentapi.client import AgentClient
from dstack.clock import WallClock
from dstack.model.host import Hop, RemoteHost
from dstack.server.auth.keys import new_key_pair
from dstack.sim.hosts import PretendHosts, pretend_host
from dstack.ssh.host import Credentials, Hosts, Onboarded, PinnedKeys, Unfit
from dstack.ssh.hosts import SshHosts
from support import hosts as test_hosts
from support.hosts_one import SUDOER

NAMES = ("host-a", "host-b", "host-c", "login")
DEADLINE_S = 60.0
LABEL = "the fleet one of http://alpha:3000"


class Ground(Protocol):
    """Machines by the names of NAMES, and what can be done to them."""

    key: str  # opens them all
    subnet: str  # `10.0.0`, of a network of 256 addresses that all of them share

    @property
    def hosts(self) -> Hosts: ...
    def address(self, name: str) -> str: ...
    def cut(self, name: str) -> None: ...
    def restore(self, name: str) -> None: ...
    def kill_agent(self, name: str) -> None: ...
    def wipe(self, name: str) -> None: ...
    def change_host_key(self, name: str) -> None: ...
    def wall_off(self, name: str, of: str) -> None:
        """`of` does not reach `name` any more."""
        ...

    def tear_down(self, name: str, of: str) -> None:
        """The wall between them."""
        ...


class Pretended:
    subnet = "10.0.0"

    def __init__(self) -> None:
        pair = new_key_pair("ours")
        self.key = pair.private
        machines = {}
        for number, name in enumerate(NAMES):
            machine = pretend_host(name, pair.private, f"{self.subnet}.{11 + number}/24")
            machine.ports[22] = b"SSH-2.0-pretended\r\n"
            machines[self.address(name)] = machine
        self.hosts = PretendHosts(machines, WallClock())

    def address(self, name: str) -> str:
        return f"{self.subnet}.{11 + NAMES.index(name)}"

    def cut(self, name: str) -> None:
        self.hosts.cut(self.address(name), self.hosts.network[self.address(name)].owner)

    def restore(self, name: str) -> None:
        self.hosts.mend(self.address(name))

    def kill_agent(self, name: str) -> None:
        self.hosts.kill_agent(self.address(name))

    def wipe(self, name: str) -> None:
        self.hosts.wipe(self.address(name))

    def change_host_key(self, name: str) -> None:
        self.hosts.network[self.address(name)].host_key += "-anew"

    def wall_off(self, name: str, of: str) -> None:
        self.hosts.walled_off.add(self.address(name))

    def tear_down(self, name: str, of: str) -> None:
        self.hosts.walled_off.clear()


class Real:
    def __init__(self, machines: test_hosts.Hosts) -> None:
        self.hosts = SshHosts()
        self.key = machines.key.read_text()
        self.subnet = machines.subnet
        self._machines = machines

    def address(self, name: str) -> str:
        return self._machines[name].address

    def cut(self, name: str) -> None:
        self._machines[name].cut_link()

    def restore(self, name: str) -> None:
        self._machines[name].restore_link()

    def kill_agent(self, name: str) -> None:
        self._machines[name].kill_agent()

    def wipe(self, name: str) -> None:
        self._machines[name].wipe()

    def change_host_key(self, name: str) -> None:
        self._machines[name].change_host_key()

    def wall_off(self, name: str, of: str) -> None:
        self._machines[name].run("iptables", "-I", *self._wall(of))

    def tear_down(self, name: str, of: str) -> None:
        self._machines[name].run("iptables", "-D", *self._wall(of))

    def _wall(self, of: str) -> list[str]:
        return ["INPUT", "-s", self.address(of), "-j", "DROP"]


class Reach:
    """A server's way to the machines; what was taken in is left at the end."""

    def __init__(self, ground: Ground, bundle: Path) -> None:
        self.ground = ground
        self.hosts = ground.hosts
        self.bundle = bundle
        self._taken: dict[str, tuple[RemoteHost, PinnedKeys]] = {}

    def at(self, name: str, **more: Any) -> RemoteHost:
        return RemoteHost(hop=Hop(hostname=self.ground.address(name), user=SUDOER), **more)

    def through(self, name: str) -> Hop:
        return Hop(hostname=self.ground.address(name), user=SUDOER)

    async def onboard(
        self, name: str, id: str = "", *, key: str = "", pinned: PinnedKeys | None = None, **more: Any
    ) -> tuple[str, Onboarded | Unfit]:
        id, at = id or str(uuid.uuid4()), self.at(name, **more)
        credentials = Credentials(key or self.ground.key, self.ground.key)
        async with asyncio.timeout(DEADLINE_S):
            done = await self.hosts.onboard(id, at, credentials, pinned or PinnedKeys(), self.bundle, LABEL)
        if isinstance(done, Onboarded):
            self._taken[id] = (at, done.pinned)
        return id, done

    async def ready(self, name: str, id: str = "", **more: Any) -> tuple[str, Onboarded]:
        id, done = await self.onboard(name, id, **more)
        assert isinstance(done, Onboarded), done.report.failed
        return id, done

    def way(self, id: str) -> tuple[str, RemoteHost, Credentials, PinnedKeys]:
        """The first arguments of each call about a host that was taken in."""
        at, pinned = self._taken[id]
        return id, at, Credentials(self.ground.key, self.ground.key), pinned

    async def client(self, id: str) -> AgentClient:
        async with asyncio.timeout(DEADLINE_S):
            return AgentClient(await self.hosts.agent(*self.way(id)))

    async def run_of_agent(self, id: str) -> str:
        """What changes each time the host's agent starts."""
        client = await self.client(id)
        try:
            return (await client.health(deadline_s=DEADLINE_S)).run
        finally:
            await client.aclose()

    async def aclose(self) -> None:
        try:
            for id in self._taken:
                async with asyncio.timeout(DEADLINE_S):
                    await self.hosts.offboard(*self.way(id)[:3], PinnedKeys())
        finally:
            await self.hosts.aclose()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's zipapp of this source tree."""
    return build(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(params=["pretended", pytest.param("ssh", marks=pytest.mark.root)])
async def reach(request: pytest.FixtureRequest, bundle: Path) -> AsyncIterator[Reach]:
    if request.param == "ssh":
        ground: Ground = Real(request.getfixturevalue("hosts"))
    else:
        ground = Pretended()
    reach = Reach(ground, bundle)
    try:
        yield reach
    finally:
        await reach.aclose()
