"""Instances on this machine: each is an agent process of its own, with its own folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from dstack.agentapi.client import Connect
from dstack.agentapi.wire import AUTO, GpuFacts, HostFacts
from dstack.backends.agents_here.agents import AgentFolders, AgentProgram
from dstack.backends.base import (
    BackendConfig,
    BackendContext,
    Created,
    CreateResult,
    InstanceOrder,
    InstanceState,
    ListedInstance,
    OutOfCapacity,
    Streams,
    Terminated,
    TerminateResult,
)
from dstack.control.scheduling.nominal import nominal_gpu_gb
from dstack.model.base import Model
from dstack.model.configurations.reading import validate
from dstack.model.instance import ProvisioningData
from dstack.model.offer import Availability, Gpu, Offer, Resources
from dstack.model.requirements import Requirements

REGION = "local"
INSTANCE_TYPE = "local"
MIB = 1024**2
# The machine is the person's own and free; this many agents on it is a mistake, not a wish.
MAX_INSTANCES = 64


class LocalConfig(Model):
    """`docker_host` is the engine's address; None: `DOCKER_HOST` of the agent, then the usual places."""

    type: Literal["local"] = "local"
    runtime: Literal["auto", "docker", "process"] = AUTO
    docker_host: str | None = None


class LocalBackend:
    """`directory` holds a folder for each instance; the other arguments are those of `AgentProgram`."""

    name = "local"

    def __init__(
        self,
        directory: Path,
        bundle: Callable[[], Path],
        python: str,
        runtime: str = AUTO,
        docker_host: str | None = None,
    ):
        self._directory = directory
        self._program = AgentProgram(bundle, python, runtime, docker_host)
        self._agents = AgentFolders(directory, self._program)
        self._facts: HostFacts | None = None

    @classmethod
    def from_config(cls, config: BackendConfig, context: BackendContext) -> LocalBackend:
        """Raises ConfigurationError."""
        read = validate(LocalConfig, dict(config), "backend local")
        return cls(context.folder, context.bundle, context.python, read.runtime, read.docker_host)

    async def offers(self, requirements: Requirements | None) -> Sequence[Offer]:
        facts = await self._host_facts()
        resources = Resources(
            cpus=facts.cpus,
            memory_mib=facts.memory_bytes // MIB,
            disk_mib=facts.disk_bytes // MIB,
            cpu_arch=facts.arch,
            gpus=tuple(_gpu(g) for g in facts.gpus),
        )
        offer = Offer(
            backend=self.name,
            region=REGION,
            instance_type=INSTANCE_TYPE,
            resources=resources,
            price=0.0,
            availability=Availability.AVAILABLE,
            runtime=facts.runtime,
            lenient_defaults=True,
        )
        return [offer]

    async def create_instance(self, order: InstanceOrder) -> CreateResult:
        if not self._agents.exists(order.token) and len(self._agents.tokens()) >= MAX_INSTANCES:
            return OutOfCapacity(f"This machine already runs {MAX_INSTANCES} instances")
        await self._agents.create(order.token)
        hostname = (await self._host_facts()).hostname
        return Created(ProvisioningData(backend_id=order.token, hostname=hostname, internal_ip="127.0.0.1"))

    async def describe_instance(self, token: str, data: ProvisioningData) -> InstanceState:
        if not self._agents.exists(token):
            return InstanceState("gone", message="its folder was removed")
        return InstanceState("running" if self._agents.alive(token) else "stopped", data)

    async def terminate_instance(self, token: str, data: ProvisioningData | None) -> TerminateResult:
        await self._agents.remove(token)
        return Terminated()

    async def list_instances(self) -> Sequence[ListedInstance]:
        return [ListedInstance(t, t, self._agents.folder(t).stat().st_mtime) for t in self._agents.tokens()]

    async def check_credentials(self) -> None:
        """There are none; the machine is the server's own."""

    async def agent_connect(self, token: str, data: ProvisioningData) -> Connect:
        return await self._agents.connect(token)

    async def open_port(self, token: str, data: ProvisioningData, port: int) -> Streams:
        return await asyncio.open_connection("127.0.0.1", port)

    async def _host_facts(self) -> HostFacts:
        if self._facts is None:
            self._facts = await self._program.host_facts(self._directory.parent / "facts")
        return self._facts


def _gpu(facts: GpuFacts) -> Gpu:
    """With the memory of its class, as people and other backends call it."""
    return Gpu(
        vendor=facts.vendor,
        name=facts.name,
        memory_mib=nominal_gpu_gb(facts.name, facts.memory_bytes // MIB) * 1024,
    )
