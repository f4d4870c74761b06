"""The pool: what a project's fleets have and may still make, on shelves of equal machines, with reservations."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dstack.control.scheduling.needs import Needs, of_fleet
from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.offer import Offer


@dataclass(eq=False, slots=True)
class NewInstance:
    """An instance that placement wants made. `ordinal` counts those of one pool and fleet."""

    fleet: Fleet
    offer: Offer
    total_blocks: int
    ordinal: int


@dataclass(eq=False, slots=True)
class Slot:
    """One machine, existing or wanted, and its free blocks."""

    machine: Instance | NewInstance
    free: int

    @property
    def names(self) -> tuple[str, ...]:
        if isinstance(self.machine, NewInstance):
            return ()
        instance = self.machine
        host = instance.host.hostname if instance.host else ""
        data = instance.data.hostname if instance.data else None
        written = instance.remote.hop.hostname if instance.remote else ""
        return (instance.name, host, data or "", written)


@dataclass(eq=False, slots=True)
class Shelf:
    """Machines that no requirement can tell apart. `rung`: 0 ready, 1 on its way."""

    fleet: Fleet
    offer: Offer
    total_blocks: int
    rung: int
    reachable: bool
    # "cordoned", "occupied", or "unhealthy: " and words; of a host of one's own "setup" until it was seen in order,
    # "unfit" when it was not.
    closed: str = ""
    apart: str = ""  # for jobs of several nodes: "network" where the host shares none, "setup" until that is known
    size: int = 0
    by_free: dict[int, deque[Slot]] = field(default_factory=dict)

    def put(self, slot: Slot, *, front: bool = False) -> None:
        shelf = self.by_free.setdefault(slot.free, deque())
        shelf.appendleft(slot) if front else shelf.append(slot)

    def take(self, blocks: int, names: frozenset[str] | None = None) -> Slot | None:
        """The fullest machine that still has room, oldest first. It leaves the shelf until it is put back."""
        for free in sorted(k for k, slots in self.by_free.items() if k >= blocks and slots):
            slots = self.by_free[free]
            if names is None:
                return slots.popleft()
            for slot in slots:
                if names.intersection(slot.names):
                    slots.remove(slot)
                    return slot
        return None

    def slots(self) -> list[Slot]:
        return [slot for slots in self.by_free.values() for slot in slots]

    def remove(self, slot: Slot) -> None:
        self.by_free[slot.free].remove(slot)

    def with_room(self, blocks: int, names: frozenset[str] | None = None) -> int:
        """How many machines have so many free blocks; of those with one of the names, when some are said."""
        roomy = (slots for free, slots in self.by_free.items() if free >= blocks)
        if names is None:
            return sum(len(slots) for slots in roomy)
        return sum(not names.isdisjoint(slot.names) for slots in roomy for slot in slots)


class Pool:
    """Built from one snapshot; `place` reserves in it, so a pool serves one turn."""

    def __init__(self, fleets: Iterable[Fleet], instances: Iterable[Instance], offers: Iterable[Offer]):
        self.fleets = sorted((f for f in fleets if _open(f)), key=lambda f: (f.name, f.id))
        self.offers: Sequence[Offer] = sorted(offers, key=_offer_order)
        self.templates: dict[str, Needs] = {f.id: of_fleet(f) for f in self.fleets}
        self.shelves: list[Shelf] = []
        self.leaving: dict[str, list[str]] = {}  # names of the instances that are about to go, by fleet
        self._index: dict[tuple, Shelf] = {}
        self._live = {f.id: 0 for f in self.fleets}
        self._wanted: dict[str, int] = {}
        self._full: list[tuple[Fleet, Instance]] = []
        free = self._sort_out(instances)
        for fleet, instance in sorted(free, key=_instance_order):
            self._shelve(fleet, instance)

    def room(self, fleet: Fleet) -> float:
        """How many more instances the fleet may have."""
        nodes = fleet.spec.configuration.nodes
        if nodes is None:
            return 0
        return float("inf") if nodes.max is None else nodes.max - self._live[fleet.id]

    def want(self, fleet: Fleet, offer: Offer, total_blocks: int, blocks: int) -> Slot:
        """Reserve a new instance, and `blocks` of it."""
        self._live[fleet.id] += 1
        ordinal = self._wanted.get(fleet.id, 0)
        self._wanted[fleet.id] = ordinal + 1
        slot = Slot(NewInstance(fleet, offer, total_blocks, ordinal), total_blocks - blocks)
        shelf = self._shelf(fleet, offer, total_blocks, rung=1, reachable=True)
        shelf.size += 1
        shelf.put(slot)
        return slot

    def unwant(self, slot: Slot) -> None:
        """Undo the latest `want`."""
        machine = slot.machine
        assert isinstance(machine, NewInstance)
        self._live[machine.fleet.id] -= 1
        self._wanted[machine.fleet.id] -= 1
        shelf = self._shelf(machine.fleet, machine.offer, machine.total_blocks, rung=1, reachable=True)
        shelf.size -= 1
        shelf.remove(slot)

    def _sort_out(self, instances: Iterable[Instance]) -> list[tuple[Fleet, Instance]]:
        """Count all that are paid for; answer those with a free block. This loop sees every machine in every turn."""
        by_id = {f.id: f for f in self.fleets}
        free: list[tuple[Fleet, Instance]] = []
        for instance in instances:
            fleet, status = by_id.get(instance.fleet_id), instance.status
            if fleet is None or status is InstanceStatus.TERMINATED:
                continue
            self._live[fleet.id] += 1
            if status is InstanceStatus.TERMINATING or instance.terminate_requested is not None:
                self.leaving.setdefault(fleet.id, []).append(instance.name)
            elif instance.busy_blocks >= instance.total_blocks:
                self._full.append((fleet, instance))
            else:
                free.append((fleet, instance))
        return free

    def shelve_full(self) -> None:
        """Put the machines without a free block on their shelves too: only reasons want to know of them."""
        full, self._full = sorted(self._full, key=_instance_order), []
        for fleet, instance in full:
            self._shelve(fleet, instance)

    def _shelve(self, fleet: Fleet, instance: Instance) -> None:
        ready = instance.status in (InstanceStatus.IDLE, InstanceStatus.BUSY)
        reachable = not ready or (instance.linked and instance.unreachable_since is None)
        rung = 0 if ready else 1
        closed, apart = _closed(instance, ready), _apart(fleet, instance)
        shelf = self._shelf(fleet, instance.offer, instance.total_blocks, rung, reachable, closed, apart)
        shelf.size += 1
        shelf.put(Slot(instance, instance.free_blocks))

    def _shelf(
        self,
        fleet: Fleet,
        offer: Offer,
        total_blocks: int,
        rung: int,
        reachable: bool,
        closed: str = "",
        apart: str = "",
    ) -> Shelf:
        key = (fleet.id, offer, total_blocks, rung, reachable, closed, apart)
        shelf = self._index.get(key)
        if shelf is None:
            shelf = self._index[key] = Shelf(fleet, offer, total_blocks, rung, reachable, closed, apart)
            self.shelves.append(shelf)
        return shelf


UNHEALTHY = "unhealthy: "


def _closed(instance: Instance, ready: bool) -> str:
    if instance.cordon is not None:
        return "cordoned"
    if instance.host is not None and instance.host.health == "failure":
        return UNHEALTHY + instance.host.health_message
    if instance.unknown_tasks:
        return "occupied"
    if instance.remote is None or ready:
        return ""
    return "unfit" if instance.report is not None and instance.report.failed else "setup"


def _apart(fleet: Fleet, instance: Instance) -> str:
    if instance.remote is None or fleet.spec.configuration.placement != "cluster":
        return ""
    if instance.data is not None and instance.data.internal_ip is not None:
        return ""
    return "network" if fleet.last_error else "setup"  # the fleet tells its hosts a moment after they were set up


def _open(fleet: Fleet) -> bool:
    return fleet.status is FleetStatus.ACTIVE and fleet.delete_requested_at is None


def _instance_order(placed: tuple[Fleet, Instance]) -> tuple[str, int, str]:
    instance = placed[1]
    return (instance.fleet_name, instance.num, instance.id)


def _offer_order(offer: Offer) -> tuple:
    return (offer.price, offer.key, offer.resources.cpus, offer.resources.memory_mib, offer.resources.disk_mib)
