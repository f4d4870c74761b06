"""A simulated cloud: offers with prices and stock, machines that take time and fail as configured."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from dstack.agentapi.client import Connect
from dstack.agentapi.wire import PROCESS
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
    Refused,
    Terminated,
    TerminateResult,
    Terminating,
)
from dstack.backends.errors import BackendError, BackendUnavailable
from dstack.backends.sim.agents import Agents, PretendingAgents, RunningAgents
from dstack.backends.sim.catalogue import catalogue
from dstack.backends.sim.config import FailureKind as Kind
from dstack.backends.sim.config import SimConfig
from dstack.backends.sim.connections import Connections
from dstack.backends.sim.machines import Machine, Machines
from dstack.backends.sim.misfortune import Misfortune
from dstack.model.configurations.reading import validate
from dstack.model.instance import ProvisioningData
from dstack.model.offer import Availability, Offer
from dstack.model.requirements import Requirements

GHOSTS = 20


class SimBackend:
    """All that exists lies in one folder: a restarted server finds it, and others when the configuration names it."""

    name = "sim"

    def __init__(self, config: SimConfig, context: BackendContext):
        self._config = config
        self._clock = context.clock
        self._catalogue = catalogue(config)
        folder = Path(config.folder) if config.folder else context.folder
        self._machines = Machines(folder / "machines", shared=config.folder is not None)
        self._misfortune = Misfortune(config.failures, config.seed, folder / "failures.json")
        self._connections = Connections()
        self._agents = _agents(config, folder, context, self._offer_of)
        self._locks: dict[str, asyncio.Lock] = {}
        self._ghosts: deque[ListedInstance] = deque(maxlen=GHOSTS)

    @classmethod
    def from_config(cls, config: BackendConfig, context: BackendContext) -> SimBackend:
        """Raises ConfigurationError."""
        return cls(validate(SimConfig, dict(config), "backend sim"), context)

    @property
    def uses_server(self) -> bool:
        return self._config.run == "process" or self._config.folder is not None

    async def offers(self, requirements: Requirements | None) -> Sequence[Offer]:
        taken = self._taken_stock()
        return [
            offer
            if stock is None or taken[_place(offer.key)] < stock
            else offer.model_copy(update={"availability": Availability.NOT_AVAILABLE})
            for offer, stock in self._catalogue
        ]

    async def create_instance(self, order: InstanceOrder) -> CreateResult:
        async with self._lock(order.token):
            machine = self._machines.get(order.token)
            if machine is None:
                refused = self._refusal(order.offer)
                if refused is not None:
                    return refused
                machine = self._order(order)
            # A caller who gives up finds the machine when it asks again: the order was accepted.
            await asyncio.sleep(max(0.0, machine.made_at - self._clock.now()))
            if self._strikes(Kind.RESULT_LOST, machine.instance_type):
                raise BackendUnavailable("The connection broke while the provider answered (simulated)")
        return Created(machine.data)

    async def describe_instance(self, token: str, data: ProvisioningData) -> InstanceState:
        machine, now = self._machines.get(token), self._clock.now()
        if machine is None:
            return InstanceState("gone", message="The provider does not know the instance (simulated)")
        if machine.taken(now):
            return InstanceState("gone", preempted=machine.preempted, message=_taken_message(machine))
        if machine.gone_at is not None:
            return InstanceState("stopped", machine.data)
        return InstanceState("running" if now >= machine.ready_at else "pending", machine.data)

    async def terminate_instance(self, token: str, data: ProvisioningData | None) -> TerminateResult:
        async with self._lock(token):
            machine = self._machines.get(token)
            if machine is None:
                return Terminated()
            if self._strikes(Kind.TERMINATE_FAILS, machine.instance_type):
                raise BackendUnavailable("The provider cannot terminate the instance just now (simulated)")
            now = self._clock.now()
            if machine.gone_at is None:
                delay = 0.0 if machine.taken(now) else self._config.delays.terminate
                machine = self._machines.change(machine, gone_at=now + delay)
            self._connections.cut(token)
            await self._agents[machine.run].remove(machine)
            if self._clock.now() < (machine.gone_at or now):
                return Terminating()
            self._machines.remove(token)
            self._ghosts.append(ListedInstance(token, machine.id, machine.created_at))
        return Terminated()

    async def list_instances(self) -> Sequence[ListedInstance]:
        now = self._clock.now()
        found = [
            ListedInstance(m.token, m.id, m.created_at)
            for m in self._machines.all()
            if not m.taken(now) and not self._strikes(Kind.LIST_FORGETS, m.instance_type)
        ]
        return [*found, *(ghost for ghost in self._ghosts if self._strikes(Kind.LIST_LIES, ""))]

    async def check_credentials(self) -> None:
        """There are none: nothing is paid for."""

    async def agent_connect(self, token: str, data: ProvisioningData) -> Connect:
        async with self._lock(token):
            machine, now = self._machines.get(token), self._clock.now()
            if machine is None or not self._answers(token):
                raise BackendError("The machine does not answer (simulated)")
            connect = await self._agents[machine.run].connect(machine)
            if machine.taken_at is not None:
                self._connections.cut_after(token, machine.taken_at - now)
        return self._connections.watched(token, connect, lambda: self._answers(token))

    async def aclose(self) -> None:
        for machine in self._machines.all():
            self._connections.cut(machine.token)
        for agents in self._agents.values():
            agents.close()

    def _answers(self, token: str) -> bool:
        machine, now = self._machines.get(token), self._clock.now()
        if machine is None or machine.deaf or machine.gone_at is not None:
            return False
        return machine.ready_at <= now and not machine.taken(now)

    def _refusal(self, offer: Offer) -> OutOfCapacity | Refused | None:
        """Why the order is not accepted. Raises BackendUnavailable."""
        stock = next((stock for each, stock in self._catalogue if each.key == offer.key), 0)
        if self._offer_of(offer.key) is None:
            return Refused(f"There is no {offer.instance_type} in {offer.region} (simulated)")
        if self._strikes(Kind.UNAVAILABLE, offer.instance_type):
            raise BackendUnavailable("The provider does not answer (simulated)")
        if self._strikes(Kind.REFUSED, offer.instance_type):
            return Refused("The provider refused the order (simulated)")
        if self._strikes(Kind.QUOTA, offer.instance_type):
            return Refused(f"The quota for {offer.instance_type} in {offer.region} is used up (simulated)")
        exhausted = stock is not None and self._taken_stock()[_place(offer.key)] >= stock
        if exhausted or self._strikes(Kind.NO_CAPACITY, offer.instance_type):
            return OutOfCapacity(f"No capacity for {offer.instance_type} in {offer.region} (simulated)")
        return None

    def _order(self, order: InstanceOrder) -> Machine:
        type_, now, delays = order.offer.instance_type, self._clock.now(), self._config.delays
        slow = self._strikes(Kind.SLOW, type_)
        made_at = now + delays.create + (slow.delay if slow else 0.0)
        preemption = self._strikes(Kind.PREEMPTION, type_) if order.offer.spot else None
        taken = preemption or self._strikes(Kind.VANISHED, type_)
        machine = Machine(
            token=order.token,
            id=f"sim-{order.token[:8]}",
            name=order.name,
            offer=order.offer.key,
            instance_type=type_,
            run=self._config.run,
            created_at=now,
            made_at=made_at,
            ready_at=made_at + delays.boot,
            taken_at=made_at + taken.after if taken else None,
            preempted=preemption is not None,
            deaf=self._strikes(Kind.DEAF, type_) is not None,
        )
        return self._machines.put(machine)

    def _taken_stock(self) -> Counter[str]:
        now = self._clock.now()
        return Counter(_place(m.offer) for m in self._machines.all() if not m.taken(now))

    def _offer_of(self, key: str) -> Offer | None:
        return next((offer for offer, _ in self._catalogue if offer.key == key), None)

    def _strikes(self, kind: Kind, instance_type: str):
        return self._misfortune.strikes(kind, instance_type)

    def _lock(self, token: str) -> asyncio.Lock:
        return self._locks.setdefault(token, asyncio.Lock())


def _agents(
    config: SimConfig, folder: Path, context: BackendContext, offer_of: Callable[[str], Offer | None]
) -> dict[str, Agents]:
    """Both kinds: machines keep theirs when the configuration changes."""
    folder, program = folder / "agents", AgentProgram(context.bundle, context.python, PROCESS)
    return {
        "process": RunningAgents(AgentFolders(folder, program)),
        "pretend": PretendingAgents(folder, config.pretend, context.clock, offer_of),
    }


def _place(key: str) -> str:
    """Spot and on-demand share one stock."""
    return key.removesuffix("/spot")


def _taken_message(machine: Machine) -> str:
    if machine.preempted:
        return "The provider took the spot instance back (simulated)"
    return "The instance vanished from its provider (simulated)"
