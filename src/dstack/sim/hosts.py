"""Hosts that pretend: what `dstack.ssh` does with real ones, within this process, with faults at will."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from pathlib import Path

from dstack.agentapi.client import Connect
from dstack.agentapi.wire import DOCKER, HostFacts
from dstack.backends.sim.config import Pretence
from dstack.backends.sim.connections import Connections
from dstack.backends.sim.pretend import PretendAgent
from dstack.backends.sim.pretend_http import connect_to
from dstack.clock import Clock
from dstack.errors import DstackError
from dstack.model.host import Finding, Hop, HostReport, RemoteHost
from dstack.ssh import checks
from dstack.ssh.errors import AgentMissing, HostKeyChanged, HostUnreachable, SshError
from dstack.ssh.host import Credentials, Onboarded, PinnedKeys, Unfit, Upgrade
from dstack.ssh.keys import private_key, refused
from dstack.ssh.look import Look, parse
from dstack.ssh.program import version_in
from dstack.ssh.remote.service import newer

GIB = 1024**3
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class PretendHost:
    """One machine. `accepts` is the private key that opens it; `faults` are what a look at it finds.

    `owner` and `label` are the mark of the instance that it belongs to; `agent` is None while none runs. `ports`: what
    a connection to a port of its loopback is greeted with.
    """

    accepts: str
    host_key: str
    addresses: tuple[str, ...] = ()
    facts: HostFacts = field(default_factory=HostFacts)
    up: bool = True
    faults: tuple[Finding, ...] = ()
    owner: str = ""
    label: str = ""
    agent: PretendAgent | None = None
    looks: int = 0
    may_be_looked_at: asyncio.Event = field(default_factory=asyncio.Event)
    ports: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.may_be_looked_at.set()

    def end_agent(self) -> None:
        if self.agent is not None:
            self.agent.close()
            self.agent = None


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
        hostname = host.hop.hostname
        try:
            machine, now_pinned = self._reach(host, credentials, pinned)
        except SshError as e:
            finding = Finding(check="ssh", state="failed", message=e.message, remedy=e.hint or "")
            return Unfit(HostReport(hostname=hostname, findings=(finding,)), pinned)
        await machine.may_be_looked_at.wait()
        machine.looks += 1
        look = _look_at(machine)
        report = HostReport(hostname=hostname, findings=_findings(machine, look, id, host))
        if report.failed:
            return Unfit(report, now_pinned)
        machine.owner, machine.label = id, label
        if newer(ours := version_in(bundle), machine.facts.agent_version):
            self._bring(hostname, ours)
        self._start(hostname)
        return Onboarded(machine.facts, report, now_pinned, checks.internal_ip(look, host), machine.addresses)

    async def agent(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> Connect:
        self._ready(id, host, credentials, pinned)

        async def connect() -> Streams:
            try:
                agent = self._ready(id, host, credentials, pinned)
            except DstackError as e:
                raise ConnectionError(str(e)) from e
            return await connect_to(agent)()

        return self._connections.watched(id, connect, lambda: True)

    async def upgrade(
        self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys, bundle: Path
    ) -> Upgrade:
        self._ready(id, host, credentials, pinned)
        before, ours = self.network[host.hop.hostname].facts.agent_version, version_in(bundle)
        if not newer(ours, before):
            return Upgrade(before, before)
        self._bring(host.hop.hostname, ours)
        return Upgrade(before, ours)

    async def unreached(
        self,
        id: str,
        host: RemoteHost,
        credentials: Credentials,
        pinned: PinnedKeys,
        others: Sequence[tuple[str, int]],
    ) -> tuple[str, ...]:
        self._reach(host, credentials, pinned)
        answer = {str(ip_interface(each).ip) for one in self.network.values() if one.up for each in one.addresses}
        answer -= self.walled_off
        return tuple(f"{address}: port {port}: no answer" for address, port in others if address not in answer)

    async def open_port(
        self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys, port: int
    ) -> Streams:
        machine, _ = self._reach(host, credentials, pinned)
        if port not in machine.ports:
            raise HostUnreachable(f"{host.hop.hostname} does not open the port: Connection refused")
        return await _greeted(machine.ports[port])

    async def offboard(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> None:
        machine, _ = self._reach(host, credentials, pinned)
        if machine.owner in ("", id):
            machine.end_agent()
            machine.owner = machine.label = ""
            machine.facts = replace(machine.facts, agent_version="")
            self._file(host.hop.hostname).unlink(missing_ok=True)
        await self.forget(id)

    async def forget(self, id: str) -> None:
        self._connections.cut(id)

    async def aclose(self) -> None:
        for machine in self.network.values():
            machine.end_agent()
        self._folder.cleanup()

    # Faults.

    def cut(self, hostname: str, id: str) -> None:
        """The link is cut; the host and what runs on it go on. `id`: the instance's."""
        self.network[hostname].up = False
        self._connections.cut(id)

    def mend(self, hostname: str) -> None:
        """The link is back, and nothing is wrong with the host any more."""
        self.network[hostname].up, self.network[hostname].faults = True, ()

    def kill_agent(self, hostname: str) -> None:
        machine = self.network[hostname]
        machine.end_agent()
        self._connections.cut(machine.owner)

    def wipe(self, hostname: str) -> None:
        """Set up anew: nothing of the agent is left on it."""
        self.kill_agent(hostname)
        machine = self.network[hostname]
        machine.owner = machine.label = ""
        machine.facts = replace(machine.facts, agent_version="")
        self._file(hostname).unlink(missing_ok=True)

    def set_up_anew(self, hostname: str) -> None:
        """Booted and set up between two questions, so that no connection ended: its agent knows of no task."""
        machine = self.network[hostname]
        machine.facts = replace(machine.facts, boot_id=machine.facts.boot_id + "'")
        assert machine.agent is not None
        machine.agent.begin_anew(machine.facts)

    # The way there.

    def _ready(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> PretendAgent:
        machine, _ = self._reach(host, credentials, pinned)
        name = host.hop.hostname
        if not machine.owner:
            raise AgentMissing(f"There is no agent of ours on {name}")
        if machine.owner != id:
            raise AgentMissing(f"{name} belongs to {machine.label or 'another fleet'} now")
        return self._start(name)

    def _start(self, hostname: str) -> PretendAgent:
        """What was on the host before an agent ended is there again with the next one."""
        machine = self.network[hostname]
        if machine.agent is None:
            machine.agent = PretendAgent(self._file(hostname), machine.facts, self._pretence, self._clock)
        return machine.agent

    def _bring(self, hostname: str, version: str) -> None:
        """Another agent, over what the one before it has written."""
        machine = self.network[hostname]
        machine.end_agent()
        self._connections.cut(machine.owner)
        machine.facts = replace(machine.facts, agent_version=version)

    def _file(self, hostname: str) -> Path:
        return Path(self._folder.name) / f"{hostname}.json"

    def _reach(self, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> tuple[PretendHost, PinnedKeys]:
        """The machine, and the keys of all on the way."""
        proxy_key = None
        if host.proxy is not None:
            proxy_key = self._log_in(host.proxy, credentials.proxy_private_key or "", pinned.proxy).host_key
        machine = self._log_in(host.hop, credentials.private_key, pinned.host)
        return machine, PinnedKeys(machine.host_key, proxy_key)

    def _log_in(self, hop: Hop, key: str, pinned: str | None) -> PretendHost:
        opens = private_key(key)  # one that cannot be used is told before anything is tried
        machine = self.network.get(hop.hostname)
        if machine is None or not machine.up:
            raise HostUnreachable(f"{hop.hostname}:{hop.port} does not answer", hint="Is the host on?")
        if hop.port != 22:
            raise HostUnreachable(f"Nothing listens on {hop.hostname}:{hop.port}")
        if pinned is not None and pinned != machine.host_key:
            raise HostKeyChanged(
                f"The host key of {hop.hostname} has changed",
                hint="If the host was set up anew, remove it from the fleet and add it again",
            )
        if key.strip() != machine.accepts.strip():
            raise refused(hop, opens)
        return machine


def pretend_host(name: str, accepts: str, address: str, **facts: object) -> PretendHost:
    """A host of 8 cores, 32 GB and 200 GB of disk, unless `facts` say otherwise. `address`: `10.0.0.5/24`."""
    given = {"cpus": 8, "memory_bytes": 32 * GIB, "disk_bytes": 200 * GIB, "runtime": DOCKER, "root": True, **facts}
    seen = HostFacts(hostname=name, boot_id=f"boot-{name}", **given)  # type: ignore[arg-type]
    return PretendHost(accepts, f"ssh-ed25519 {name}", (address,), seen)


def _look_at(machine: PretendHost) -> Look:
    return parse("".join(f"address\teth0 {each}\n" for each in machine.addresses))


def _findings(machine: PretendHost, look: Look, id: str, host: RemoteHost) -> tuple[Finding, ...]:
    """As the look at a real host tells them; what else there is to find is in `faults`."""
    found = [Finding(check="ssh", state="ok", message=f"{host.hop.user}@{host.hop.hostname}"), *machine.faults]
    found += checks.network(look, host)
    if machine.owner not in ("", id):
        found.append(checks.taken(machine.label, host.hop.hostname))
    return tuple(found)


async def _greeted(words: bytes) -> Streams:
    """A connection at whose other end somebody says `words` and listens to nothing."""
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: _Greeting(words), theirs)
    return await asyncio.open_connection(sock=ours)


class _Greeting(asyncio.Protocol):
    def __init__(self, words: bytes):
        self._words = words

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._words)
