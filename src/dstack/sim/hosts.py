"""Hosts that pretend: what `dstack.ssh` does with real ones, within this process, with faults at will."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dstack.agentapi.client import Connect
from dstack.agentapi.wire import DOCKER, HostFacts
from dstack.backends.sim.config import Pretence
from dstack.backends.sim.connections import Connections
from dstack.backends.sim.pretend import PretendAgent
from dstack.backends.sim.pretend_http import connect_to
from dstack.clock import Clock
from dstack.model.host import Finding, HostReport, RemoteHost
from dstack.ssh.errors import AccessDenied, AgentMissing, HostKeyChanged, HostUnreachable, SshError
from dstack.ssh.host import Credentials, Onboarded, PinnedKeys, Unfit

GIB = 1024**3
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class PretendHost:
    """One machine. `accepts` is the private key that opens it; `faults` are what a look at it finds."""

    accepts: str
    host_key: str
    addresses: tuple[str, ...] = ()
    facts: HostFacts = field(default_factory=HostFacts)
    up: bool = True
    faults: tuple[Finding, ...] = ()
    agent: PretendAgent | None = None
    looks: int = 0


class PretendHosts:
    """Fulfils `dstack.ssh.host.Hosts` over the machines of `network`, by host name."""

    def __init__(self, network: Mapping[str, PretendHost], clock: Clock, pretence: Pretence | None = None):
        self.network = dict(network)
        self.walled_off: set[str] = set()  # internal addresses that no other host reaches
        self._clock = clock
        self._pretence = pretence or Pretence()
        self._connections = Connections()
        self._folder = tempfile.TemporaryDirectory(prefix="dstack-hosts-")

    async def onboard(
        self,
        id: str,
        host: RemoteHost,
        credentials: Credentials,
        pinned: PinnedKeys,
        bundle: Path,
        label: str = "",
    ) -> Onboarded | Unfit:
        machine = self._reach(host, credentials, pinned)
        machine.looks += 1
        now_pinned = PinnedKeys(machine.host_key, pinned.proxy)
        report = HostReport(hostname=host.hop.hostname, findings=machine.faults)
        if report.failed:
            return Unfit(report, now_pinned)
        if machine.agent is None:
            file = Path(self._folder.name) / f"{host.hop.hostname}.json"
            machine.agent = PretendAgent(file, machine.facts, self._pretence, self._clock)
        return Onboarded(machine.facts, report, now_pinned, host.internal_ip, machine.addresses)

    async def agent(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> Connect:
        machine = self._reach(host, credentials, pinned)
        if machine.agent is None:
            raise AgentMissing(f"{host.hop.hostname} does not carry the agent", hint="apply the fleet again")

        async def connect() -> Streams:
            try:
                again = self._reach(host, credentials, pinned)
            except SshError as e:
                raise ConnectionError(str(e)) from e
            if again.agent is None:
                raise ConnectionError("the agent is gone")
            return await connect_to(again.agent)()

        return self._connections.watched(id, connect, lambda: machine.up)

    async def unreached(
        self,
        id: str,
        host: RemoteHost,
        credentials: Credentials,
        pinned: PinnedKeys,
        others: Sequence[tuple[str, int]],
    ) -> tuple[str, ...]:
        self._reach(host, credentials, pinned)
        return tuple(f"{address}: no answer" for address, _ in others if address in self.walled_off)

    async def open_port(
        self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys, port: int
    ) -> Streams:
        raise HostUnreachable("A simulated host has no ports")

    async def offboard(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> None:
        machine = self._reach(host, credentials, pinned)
        self._connections.cut(id)
        if machine.agent is not None:
            machine.agent.close()
            machine.agent = None

    async def forget(self, id: str) -> None:
        self._connections.cut(id)

    async def aclose(self) -> None:
        for machine in self.network.values():
            if machine.agent is not None:
                machine.agent.close()
        self._folder.cleanup()

    def cut(self, hostname: str, id: str) -> None:
        """The link is cut; the host and what runs on it go on. `id`: the instance's."""
        self.network[hostname].up = False
        self._connections.cut(id)

    def mend(self, hostname: str) -> None:
        """The link is back, and nothing is wrong with the host any more."""
        self.network[hostname].up, self.network[hostname].faults = True, ()

    def reboot(self, hostname: str, id: str) -> None:
        machine = self.network[hostname]
        machine.facts = replace(machine.facts, boot_id=machine.facts.boot_id + "'")
        if machine.agent is not None:
            machine.agent.facts = machine.facts
        self._connections.cut(id)

    def _reach(self, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> PretendHost:
        machine = self.network.get(host.hop.hostname)
        if machine is None or not machine.up:
            raise HostUnreachable(f"{host.hop.hostname}:{host.hop.port} does not answer", hint="Is the host on?")
        if pinned.host is not None and pinned.host != machine.host_key:
            raise HostKeyChanged(f"The host key of {host.hop.hostname} has changed")
        if credentials.private_key.strip() != machine.accepts.strip():
            raise AccessDenied(f"{host.hop.hostname} does not let {host.hop.user} in with this key")
        return machine


def pretend_host(name: str, accepts: str, address: str, **facts: object) -> PretendHost:
    """A host of 8 cores, 32 GB and 200 GB of disk, unless `facts` say otherwise. `address`: `10.0.0.5/24`."""
    given = {"cpus": 8, "memory_bytes": 32 * GIB, "disk_bytes": 200 * GIB, "runtime": DOCKER, "root": True, **facts}
    seen = HostFacts(hostname=name, boot_id=f"boot-{name}", **given)  # type: ignore[arg-type]
    return PretendHost(accepts, f"ssh-ed25519 {name}", (address, "127.0.0.1/8", "172.17.0.1/16"), seen)
