"""The agents of simulated machines: processes of this machine that run jobs, or ones within the server that pretend."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dstack.agentapi.client import Connect
from dstack.agentapi.wire import DOCKER, GpuFacts, HostFacts
from dstack.backends.agents_here.agents import AgentFolders
from dstack.backends.sim.config import Pretence
from dstack.backends.sim.machines import Machine
from dstack.backends.sim.pretend import PretendAgent
from dstack.backends.sim.pretend_http import connect_to
from dstack.clock import Clock
from dstack.model.offer import Offer

MIB = 1024**2


class Agents(Protocol):
    async def connect(self, machine: Machine) -> Connect:
        """How to reach the machine's agent, started when it does not run. Raises BackendError."""
        ...

    async def remove(self, machine: Machine) -> None:
        """End the agent and what it runs, and forget it; idempotent. Raises BackendError."""
        ...

    def close(self) -> None:
        """Let go of all agents; what they run goes on, or is taken up again by the next."""
        ...


class RunningAgents:
    def __init__(self, folders: AgentFolders):
        self._folders = folders

    async def connect(self, machine: Machine) -> Connect:
        await self._folders.create(machine.token)
        return await self._folders.connect(machine.token)

    async def remove(self, machine: Machine) -> None:
        await self._folders.remove(machine.token)

    def close(self) -> None:
        """They are processes of their own."""


class PretendingAgents:
    """`offer_of` answers the offer of a key while there is one."""

    def __init__(self, folder: Path, pretence: Pretence, clock: Clock, offer_of: Callable[[str], Offer | None]):
        self._folder = folder
        self._pretence = pretence
        self._clock = clock
        self._offer_of = offer_of
        self._agents: dict[str, PretendAgent] = {}

    async def connect(self, machine: Machine) -> Connect:
        agent = self._agents.get(machine.token)
        if agent is None:
            file = self._folder / machine.token / "tasks.json"
            facts = _facts(machine, self._offer_of(machine.offer))
            agent = self._agents[machine.token] = PretendAgent(file, facts, self._pretence, self._clock)
        return connect_to(agent)

    async def remove(self, machine: Machine) -> None:
        agent = self._agents.pop(machine.token, None)
        if agent is not None:
            agent.close()
        shutil.rmtree(self._folder / machine.token, ignore_errors=True)

    def close(self) -> None:
        for agent in self._agents.values():
            agent.close()
        self._agents.clear()


def _facts(machine: Machine, offer: Offer | None) -> HostFacts:
    """The machine is what was ordered, or unknown when it is not offered any more."""
    facts = HostFacts(hostname=machine.id, boot_id=machine.token, runtime=DOCKER, engine_version="pretended")
    facts.user, facts.root, facts.agent_version = "root", True, "pretends"
    if offer is not None:
        r = offer.resources
        facts.arch, facts.cpus = r.cpu_arch, r.cpus
        facts.memory_bytes, facts.disk_bytes = r.memory_mib * MIB, r.disk_mib * MIB
        facts.gpus = [GpuFacts(g.vendor, g.name, g.memory_mib * MIB) for g in r.gpus]
    return facts
