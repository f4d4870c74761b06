"""Hosts over SSH: taken in, reached, left as they were."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from dstack.agentapi.client import AgentClient, AgentRefused, AgentUnreachable, Connect
from dstack.agentapi.wire import HostFacts
from dstack.model.host import Finding, HostReport, RemoteHost
from dstack.ssh import checks
from dstack.ssh.errors import AgentMissing, HostUnreachable, SshError
from dstack.ssh.host import Credentials, Onboarded, PinnedKeys, Unfit, Upgrade
from dstack.ssh.look import Look
from dstack.ssh.pool import Link, Pool
from dstack.ssh.probes import forwarding_allowed, look_at, unreached_from, with_python
from dstack.ssh.program import Program, read, version_in
from dstack.ssh.remote.service import newer
from dstack.ssh.remote_call import PYTHON_PATH, call
from dstack.ssh.streams import Streams, open_command, open_port, open_socket

SOCKET = "/run/dstack/agent.sock"
SPARES = 7  # more connections to a host whose sshd forwards no sockets; each carries ten channels
RELAY = """\
import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
def up():
    while True:
        data = os.read(0, 262144)
        if not data:
            break
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while True:
    data = s.recv(262144)
    if not data:
        break
    while data:
        data = data[os.write(1, data):]
"""


class SshHosts:
    """The `Hosts` protocol over asyncssh. Belongs to one event loop; keys are in memory only."""

    def __init__(self) -> None:
        self._pool = Pool()
        self._in_vain: dict[tuple[str, str], str] = {}  # why an upgrade failed, by host and version
        logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it tells of every channel

    async def onboard(
        self,
        id: str,
        host: RemoteHost,
        credentials: Credentials,
        pinned: PinnedKeys,
        bundle: Path,
        label: str = "",
    ) -> Onboarded | Unfit:
        program = await asyncio.to_thread(read, bundle)
        try:
            link = await self._pool.link(id, host, credentials, pinned)
        except SshError as e:
            finding = Finding(check="ssh", state="failed", message=e.message, remedy=e.hint or "")
            return Unfit(HostReport(hostname=host.hop.hostname, findings=(finding,)), pinned)
        look, report = await self._look(link, id, host)
        if report.failed:
            return Unfit(report, link.pinned)
        problem = await self._install(link, id, look, program, label)
        if problem is not None:
            return Unfit(report.model_copy(update={"findings": (*report.findings, problem)}), link.pinned)
        link.agent_seen = True
        facts = await self._facts(await self.agent(id, host, credentials, link.pinned))
        return Onboarded(facts, report, link.pinned, checks.internal_ip(look, host), look.addresses)

    async def agent(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> Connect:
        """As the protocol says. The answer connects anew where the link broke, and raises OSError alone."""
        await self._ready(id, host, credentials, pinned)

        async def connect() -> Streams:
            try:
                link = await self._ready(id, host, credentials, pinned)
                return await self._open(id, link)
            except (SshError, asyncssh.Error) as e:
                raise ConnectionError(str(e)) from e

        return connect

    async def upgrade(
        self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys, bundle: Path
    ) -> Upgrade:
        version = await asyncio.to_thread(version_in, bundle)
        before = await self._version(await self.agent(id, host, credentials, pinned))
        if not newer(version, before) or (id, version) in self._in_vain:
            return Upgrade(before, before, self._in_vain.get((id, version), ""))
        program = await asyncio.to_thread(read, bundle)
        link = await self._ready(id, host, credentials, pinned)
        request = {"instance": id, "sha256": program.sha256, "version": version}
        async with link.lock:  # nobody starts the old one meanwhile
            answer = await call(link.connection, "install", request, program.data)
        if "failed" in answer:
            self._in_vain[id, version] = str(answer["failed"])
            return Upgrade(before, before, str(answer["failed"]))
        return Upgrade(before, version if answer.get("done") == "upgraded" else before)

    async def unreached(
        self,
        id: str,
        host: RemoteHost,
        credentials: Credentials,
        pinned: PinnedKeys,
        others: Sequence[tuple[str, int]],
    ) -> tuple[str, ...]:
        link = await self._pool.link(id, host, credentials, pinned)
        return await unreached_from(link.connection, others)

    async def open_port(
        self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys, port: int
    ) -> Streams:
        link = await self._pool.link(id, host, credentials, pinned)
        try:
            return await open_port(link.connection, port)
        except asyncssh.ChannelOpenError as e:
            raise HostUnreachable(f"{host.hop.hostname} does not open the port: {e.reason}") from e

    async def offboard(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> None:
        link = await self._pool.link(id, host, credentials, pinned)
        try:
            answer = await call(link.connection, "offboard", {"instance": id})
        except AgentMissing:
            answer = {}  # nothing of ours is there
        if "failed" in answer:
            raise HostUnreachable(f"{host.hop.hostname} cannot be left clean yet: {answer['failed']}")
        await self.forget(id)

    async def forget(self, id: str) -> None:
        await self._pool.forget(id)

    async def aclose(self) -> None:
        await self._pool.aclose()

    # Taking in.

    async def _look(self, link: Link, id: str, host: RemoteHost) -> tuple[Look, HostReport]:
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(look_at(link.connection))
            trying = group.create_task(forwarding_allowed(link.connection, host.hop.port))
        look = looking.result()
        if not look.pythons and look.may_become_root:
            look = await with_python(link.connection, look)
        found = [Finding(check="ssh", state="ok", message=f"{host.hop.user}@{host.hop.hostname}")]
        found += checks.findings(look, host)
        found.append(checks.forwarding(trying.result()))
        if look.owner is not None and look.owner.get("instance") != id:
            found.append(checks.taken(str(look.owner.get("label") or ""), host.hop.hostname))
        return look, HostReport(hostname=host.hop.hostname, findings=tuple(found))

    async def _install(self, link: Link, id: str, look: Look, program: Program, label: str) -> Finding | None:
        """None when the agent runs; else what to tell."""
        assert look.python is not None
        request = {
            "instance": id,
            "label": label,
            "sha256": program.sha256,
            "version": program.version,
            "python": look.python.path,
            "owner_uid": look.uid,
        }
        python = look.python.path
        answer = await call(link.connection, "install", request, program.data, python=python)
        if "taken" in answer:
            return checks.taken(str(answer["taken"].get("label") or ""), "the host")
        if "failed" in answer:
            message = f"the agent does not start: {answer['failed']}"
            return Finding(check="agent", state="failed", message=message, remedy="see /var/lib/dstack/agent/agent.log")
        return None

    async def _facts(self, connect: Connect) -> HostFacts:
        client = AgentClient(connect)
        try:
            return await client.host()
        except (AgentUnreachable, AgentRefused) as e:
            raise HostUnreachable(f"The agent was installed, but {e}") from e
        finally:
            await client.aclose()

    async def _version(self, connect: Connect) -> str:
        client = AgentClient(connect)
        try:
            return (await client.health()).version
        except (AgentUnreachable, AgentRefused) as e:
            raise HostUnreachable(f"The agent does not answer: {e}") from e
        finally:
            await client.aclose()

    # Reaching.

    async def _ready(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> Link:
        """A link to a host that is ours, and whose agent ran when that was looked at."""
        link = await self._pool.link(id, host, credentials, pinned)
        if not link.agent_seen:
            async with link.lock:
                if not link.agent_seen:
                    await _ensure(link, id)
                    link.agent_seen = True
        return link

    async def _open(self, id: str, link: Link) -> Streams:
        """A channel to the agent; started where it is down. Raises SshError, asyncssh.Error."""
        if link.relay:
            return await self._open_relay(link)
        try:
            return await open_socket(link.connection, SOCKET)
        except asyncssh.ChannelOpenError:
            pass  # nobody listens there, or sshd forwards no sockets
        async with link.lock:  # many ask at once when an agent goes down: one of them starts it
            if link.relay:
                return await self._open_relay(link)
            try:
                return await open_socket(link.connection, SOCKET)
            except asyncssh.ChannelOpenError:
                link.agent_seen = False
            started = await _ensure(link, id)
            link.agent_seen = True
            try:
                return await open_socket(link.connection, SOCKET)
            except asyncssh.ChannelOpenError:
                if started:
                    raise
                link.relay = True
                return await self._open_relay(link)

    async def _open_relay(self, link: Link) -> Streams:
        script = f'p=$(cat {PYTHON_PATH}) && exec "$p" -IS -c {shlex.quote(RELAY)} {SOCKET}'
        command = f"/bin/sh -c {shlex.quote(script)}"
        link.spares = [spare for spare in link.spares if not spare.is_closed()]
        for connection in (link.connection, *link.spares):
            try:
                return await open_command(connection, command)
            except asyncssh.ChannelOpenError:
                continue  # as many sessions as sshd's MaxSessions allows
        if len(link.spares) >= SPARES:
            raise HostUnreachable("The host's sshd allows no more sessions")
        return await open_command(await self._pool.spare(link), command)


async def _ensure(link: Link, id: str) -> bool:
    """Whether the agent had to be started. Raises AgentMissing, HostUnreachable."""
    hop = link.way[0]
    answer = await call(link.connection, "ensure", {"instance": id})
    if "taken" in answer:
        raise AgentMissing(
            f"{hop.hostname} belongs to {answer['taken'].get('label') or 'another fleet'} now",
            hint="Another machine may have got its address; remove the host from the fleet",
        )
    if "missing" in answer:
        raise AgentMissing(f"There is no agent of ours on {hop.hostname}")
    if "failed" in answer:
        raise HostUnreachable(f"The agent of {hop.hostname} does not start: {answer['failed']}")
    return answer.get("done") == "started"
