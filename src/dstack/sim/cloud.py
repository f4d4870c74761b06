"""A simulated cloud: the same token gives the same machine; it is slow, full, lying or down at times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dstack.model.instance import Instance, ProvisioningData
from dstack.model.observation import CreateFailed, Gone, InstanceCreated, NoCapacity, Observation, Vanished
from dstack.model.offer import Offer
from dstack.sim.clock import VirtualClock
from dstack.sim.faults import Faults
from dstack.sim.host import Host, Task


@dataclass(slots=True)
class Machine:
    token: str
    number: int
    address: str
    host: Host
    foreign: bool = False  # under our tag, and made by nobody whom our rows know


class CloudDown(Exception):
    """The call failed; whether it did something is unknown."""


class Cloud:
    """`machines` are those that really run and cost money."""

    def __init__(
        self, clock: VirtualClock, faults: Faults, offers: Sequence[Offer], tell: Callable[[Host, Task], None]
    ):
        self.offers = tuple(offers)
        self.machines: dict[str, Machine] = {}
        self.created = 0
        self._clock = clock
        self._faults = faults
        self._tell = tell
        self._refused: dict[str, Observation] = {}
        self._ended: dict[str, ProvisioningData] = {}  # a token names one machine for ever, also a dead one
        self._at: dict[str, Machine] = {}
        self._free_addresses: list[str] = []

    def create(self, instance: Instance) -> Observation:
        """Raises CloudDown. A refused token stays refused: the same order has the same answer."""
        now, token = self._clock.now(), instance.token
        if self._faults.hit("cloud-down", now):
            raise CloudDown("create")
        if token in self._refused:
            return self._refused[token]
        if token in self._ended:
            return InstanceCreated(data=self._ended[token])
        if token not in self.machines:
            if self._faults.hit("no-capacity", now):
                self._refused[token] = NoCapacity(message="no capacity in this region")
                return self._refused[token]
            if self._faults.hit("refusal", now):
                self._refused[token] = CreateFailed(message="quota exceeded")
                return self._refused[token]
            self._make(token, now)
        if self._faults.hit("lost-result", now):
            raise CloudDown("create")
        return InstanceCreated(data=self._data(self.machines[token]))

    def terminate(self, token: str) -> Observation | None:
        """None: not gone yet. Raises CloudDown."""
        now = self._clock.now()
        if self._faults.hit("cloud-down", now):
            raise CloudDown("terminate")
        machine = self.machines.get(token)
        if machine is None:
            return Gone()
        machine.host.dead = True
        if self._faults.hit("slow-termination", now):
            return None
        self._end(token)
        return Gone()

    def describe(self, instance: Instance) -> Observation | None:
        """Vanished if the machine is said to be gone."""
        now = self._clock.now()
        machine = self.machines.get(instance.token)
        if machine is None or self._faults.hit("lying-cloud", now):
            return Vanished(message="", preempted=machine is None)
        return None

    def list(self) -> list[Machine]:
        """All under our tag, or so the cloud says. Raises CloudDown."""
        now = self._clock.now()
        if self._faults.hit("cloud-down", now):
            raise CloudDown("list")
        machines = [*self.machines.values()]
        if self._faults.hit("forgetful-list", now):
            return [m for m in machines if self._faults.between(0, 1) < 0.5]
        return machines

    def add_foreign(self) -> None:
        """A machine of somebody else appears under our tag."""
        self._make(f"foreign-{self.created}", self._clock.now())
        [*self.machines.values()][-1].foreign = True

    def preempt(self, token: str) -> None:
        machine = self.machines.get(token)
        if machine is not None:
            machine.host.dead = True
            self._end(token)

    def at_address(self, address: str | None) -> Host | None:
        """The host that answers there now."""
        machine = self._at.get(address or "")
        return machine.host if machine is not None else None

    def _end(self, token: str) -> None:
        machine = self.machines.pop(token)
        self._ended[token] = self._data(machine)
        self._at.pop(machine.address, None)
        self._free_addresses.append(machine.address)

    def _make(self, token: str, now: float) -> None:
        slow = self._faults.hit("slow-cloud", now)
        boot_s = self._faults.between(300, 1500) if slow else self._faults.between(20, 60)
        self.created += 1
        host = Host(token, self._clock, self._tell, boot_at=now + boot_s)
        machine = Machine(token, self.created, self._address(now), host)
        self.machines[token] = self._at[machine.address] = machine

    def _address(self, now: float) -> str:
        if self._free_addresses and self._faults.hit("reused-address", now):
            return self._free_addresses.pop(0)
        return f"10.0.{self.created // 250}.{self.created % 250}"

    @staticmethod
    def _data(machine: Machine) -> ProvisioningData:
        return ProvisioningData(backend_id=f"m-{machine.number}", hostname=machine.address)
