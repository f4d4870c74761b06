"""The backend whose machines are there already: they are looked at, set up, and left as they were found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dstack.agentapi.client import Connect
from dstack.agentapi.wire import HostFacts
from dstack.backends.base import (
    Created,
    CreateResult,
    InstanceOrder,
    InstanceState,
    ListedInstance,
    Refused,
    Streams,
    Terminated,
    TerminateResult,
    Unfit,
)
from dstack.backends.errors import BackendUnavailable
from dstack.backends.ssh.book import HostBook, KnownHost
from dstack.control.scheduling import nominal_disk_mib, nominal_gpu_gb, nominal_memory_mib
from dstack.errors import DstackError
from dstack.model.host import Finding, HostReport
from dstack.model.instance import ProvisioningData
from dstack.model.offer import Availability, Gpu, Offer, Resources
from dstack.model.requirements import Requirements
from dstack.ssh import host as ssh
from dstack.ssh.errors import AccessDenied, AgentMissing, HostKeyChanged, HostUnreachable

NAME, REGION, INSTANCE_TYPE = "ssh", "remote", "ssh"
MIB = 1024**2
UPGRADE_S = 180.0  # over a slow line, and with the way back where the newer agent does not start
log = logging.getLogger(__name__)


class SshBackend:
    """Belongs to the server and serves every project.

    `hosts` is called once, when the first host is reached; `bundle` answers the agent's zipapp, built when needed.
    """

    name = NAME

    def __init__(self, hosts: Callable[[], ssh.Hosts], book: HostBook, bundle: Callable[[], Path]):
        self._make_hosts = hosts
        self._made: ssh.Hosts | None = None
        self._book = book
        self._build = bundle
        self._built: Path | None = None

    @property
    def _hosts(self) -> ssh.Hosts:
        if self._made is None:
            self._made = self._make_hosts()
        return self._made

    async def _bundle(self) -> Path:
        """Built once: two hundred hosts that are linked at once ask for it."""
        if self._built is None or not self._built.exists():
            self._built = await asyncio.to_thread(self._build)
        return self._built

    async def offers(self, requirements: Requirements | None) -> Sequence[Offer]:
        """None: what a fleet does not have cannot be made."""
        return []

    async def create_instance(self, order: InstanceOrder) -> CreateResult:
        """Look at the host and set it up. What a person can mend is Unfit, with the command that mends it."""
        if order.data is None:
            return Refused("the SSH backend makes no machines, it takes those that a fleet names")
        id_ = instance_id(order.data)
        known = await self._book.find(id_)
        if known is None:
            return Refused("The key of the host is not on the server any more; apply the fleet again")
        try:
            label, bundle = f"the fleet {order.fleet} of the project {order.project}", await self._bundle()
            found = await self._hosts.onboard(id_, known.remote, known.credentials, known.pinned, bundle, label)
        except (HostUnreachable, HostKeyChanged, AccessDenied) as e:
            return Unfit(_not_reached(known, e))
        await self._book.pin(id_, found.pinned)
        if isinstance(found, ssh.Unfit):
            return Unfit(found.report)
        data = order.data.model_copy(update={"internal_ip": found.internal_ip, "addresses": found.addresses})
        return Created(data, offer(found.facts), found.report)

    async def describe_instance(self, token: str, data: ProvisioningData) -> InstanceState:
        """A host of one's own is never gone; the message says why it does not answer."""
        known = await self._book.find(instance_id(data))
        if known is None:
            return InstanceState("running", data, message="its key is not on the server any more")
        try:
            await self._hosts.agent(instance_id(data), known.remote, known.credentials, known.pinned)
        except (HostUnreachable, HostKeyChanged, AccessDenied, AgentMissing) as e:
            return InstanceState("running", data, message=_words(e))
        return InstanceState("running", data)

    async def terminate_instance(self, token: str, data: ProvisioningData | None) -> TerminateResult:
        """Leave the host as it was found. A host that is not the one we set up has nothing of ours."""
        known = None if data is None else await self._book.find(instance_id(data))
        if data is None or known is None:
            return Terminated()
        message = ""
        try:
            await self._hosts.offboard(instance_id(data), known.remote, known.credentials, known.pinned)
        except (HostUnreachable, AccessDenied) as e:
            raise BackendUnavailable(_words(e)) from e
        except (HostKeyChanged, AgentMissing) as e:
            message = f"nothing was removed from {known.remote.key}: {_words(e)}"
        await self.leave(data)
        return Terminated(message)

    async def leave(self, data: ProvisioningData) -> None:
        """Close the connection and forget what is known of the host."""
        await self._hosts.forget(instance_id(data))
        await self._book.forget(instance_id(data))

    async def list_instances(self) -> Sequence[ListedInstance]:
        return [ListedInstance(token, token) for token in await self._book.tokens()]

    async def check_credentials(self) -> None:
        """There are none of the whole; each host has its own."""

    async def agent_connect(self, token: str, data: ProvisioningData) -> Connect:
        known = await self._book.find(instance_id(data))
        if known is None:
            raise BackendUnavailable("the key of the host is not on the server any more")
        way = (instance_id(data), known.remote, known.credentials, known.pinned)
        try:
            async with asyncio.timeout(UPGRADE_S):
                done = await self._hosts.upgrade(*way, await self._bundle())
            if done.problem:
                log.warning("The agent of %s stays %s: %s", known.remote.key, done.now, done.problem)
            return await self._hosts.agent(*way)
        except (HostUnreachable, HostKeyChanged, AccessDenied, AgentMissing) as e:
            raise BackendUnavailable(_words(e)) from e
        except TimeoutError as e:
            raise BackendUnavailable(f"the agent of {known.remote.key} could not be brought up to date in time") from e

    async def open_port(self, token: str, data: ProvisioningData, port: int) -> Streams:
        known = await self._book.find(instance_id(data))
        if known is None:
            raise BackendUnavailable("the key of the host is not on the server any more")
        try:
            return await self._hosts.open_port(instance_id(data), known.remote, known.credentials, known.pinned, port)
        except (HostUnreachable, HostKeyChanged, AccessDenied) as e:
            raise BackendUnavailable(_words(e)) from e

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()


def host_data(token: str, instance: str, hostname: str, port: int, user: str) -> ProvisioningData:
    """What is known of the machine before anybody looked at it. `instance` is the instance's id."""
    return ProvisioningData(
        backend_id=token, hostname=hostname, ssh_port=port, username=user, backend_data={"instance_id": instance}
    )


def instance_id(data: ProvisioningData) -> str:
    return str(data.backend_data["instance_id"])


def offer(facts: HostFacts) -> Offer:
    """What the host has, in the sizes that people call it by. It costs nothing."""
    gpus = tuple(
        Gpu(vendor=g.vendor, name=g.name, memory_mib=nominal_gpu_gb(g.name, g.memory_bytes // MIB) * 1024)
        for g in facts.gpus
    )
    resources = Resources(
        cpus=facts.cpus,
        memory_mib=nominal_memory_mib(facts.memory_bytes // MIB),
        disk_mib=nominal_disk_mib(facts.disk_bytes // MIB),
        cpu_arch=facts.arch,
        gpus=gpus,
    )
    return Offer(
        backend=NAME,
        region=REGION,
        instance_type=INSTANCE_TYPE,
        resources=resources,
        price=0.0,
        availability=Availability.AVAILABLE,
        runtime=facts.runtime,
    )


def _not_reached(known: KnownHost, e: DstackError) -> HostReport:
    finding = Finding(check="ssh", state="failed", message=e.message, remedy=e.hint or "")
    return HostReport(hostname=known.remote.hop.hostname, findings=(finding,))


def _words(e: DstackError) -> str:
    return f"{e.message}; {e.hint}" if e.hint else e.message
