"""Placement: a fold over units in queue order that reserves blocks and fleet capacity as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from dstack.control.scheduling.candidates import extend, fits_of, funnel_of, match_offers
from dstack.control.scheduling.disks import with_disk
from dstack.control.scheduling.each import IN_A_TURN, with_hosts
from dstack.control.scheduling.fits import Fits, OfferFit
from dstack.control.scheduling.pool import NewInstance, Pool, Slot
from dstack.control.scheduling.reasons import Funnel
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import PlacementReport
from dstack.model.offer import Offer
from dstack.model.requirements import Requirements


@dataclass(frozen=True, slots=True)
class Ask:
    """One job's wish. `tried`: keys of offers that have just been tried; `beside`: where its gang already is."""

    id: str
    requirements: Requirements
    tried: frozenset[str] = frozenset()
    beside: tuple[str, str, str] | None = None  # fleet id, backend, region


@dataclass(frozen=True, slots=True)
class Unit:
    """A gang: placed whole or not at all. `together` wants one fleet, backend and region for all."""

    key: str
    asks: tuple[Ask, ...]
    together: bool = False


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one job goes. `created`: the instance is to be made, and is made for this job."""

    ask: Ask
    fleet: Fleet
    machine: Instance | NewInstance
    offer: Offer
    blocks: int
    total_blocks: int
    created: bool


@dataclass(frozen=True, slots=True)
class Placed:
    unit: Unit
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is free, but a machine that is being terminated makes room soon."""

    unit: Unit
    report: PlacementReport


@dataclass(frozen=True, slots=True)
class Unplaceable:
    unit: Unit
    report: PlacementReport
    best_reason: str | None


Outcome = Placed | Waiting | Unplaceable
Region = tuple[str, str, str]


def place(pool: Pool, units: Iterable[Unit], at: float = 0.0) -> list[Outcome]:
    """An outcome for each unit, in order. Earlier units have the first choice."""
    turn = _Turn(pool, at)
    return [turn.place(unit) for unit in units]


class _Turn:
    def __init__(self, pool: Pool, at: float):
        self._pool = pool
        self._at = at
        self._fits: dict[Requirements, Fits] = {}

    def place(self, unit: Unit) -> Outcome:
        taken = self._best_region(unit) if unit.together else self._seat_all(unit, None)
        if taken is None:
            return self._refuse(unit)
        return Placed(unit, tuple(t.seat for t in taken))

    def _best_region(self, unit: Unit) -> list[_Taken] | None:
        """Seat a cluster where it needs the fewest new machines, and the cheapest."""
        best: tuple[tuple, Region] | None = None
        for region in self._regions(unit):
            taken = self._seat_all(unit, region)
            if taken is None:
                continue
            cost = (sum(t.seat.created for t in taken), sum(t.seat.offer.price for t in taken), region)
            best = min(best, (cost, region)) if best else (cost, region)
            _undo(taken)
        return self._seat_all(unit, best[1]) if best else None

    def _regions(self, unit: Unit) -> list[Region]:
        beside = next((a.beside for a in unit.asks if a.beside), None)
        if beside is not None:
            return [beside]
        fits = self._fits_for(unit.asks[0].requirements)
        match_offers(self._pool, fits)
        found = {(f.shelf.fleet.id, f.shelf.offer.backend, f.shelf.offer.region): None for f in fits.shelves}
        found |= {(f.fleet.id, f.offer.backend, f.offer.region): None for fleets in fits.offers for f in fleets}
        return list(found)

    def _seat_all(self, unit: Unit, region: Region | None) -> list[_Taken] | None:
        taken: list[_Taken] = []
        for ask in unit.asks:
            seat = self._seat(ask, region)
            if seat is None:
                _undo(taken)
                return None
            taken.append(seat)
        return taken

    def _seat(self, ask: Ask, region: Region | None) -> _Taken | None:
        fits = self._fits_for(ask.requirements)
        for fit in fits.shelves:
            shelf = fit.shelf
            if region is None or region == (shelf.fleet.id, shelf.offer.backend, shelf.offer.region):
                slot = shelf.take(fit.blocks, fits.names)
                if slot is not None:
                    return self._take_shelved(ask, fit.blocks, slot, shelf)
        for fit in self._offers(fits, ask, region):
            offer = with_disk(fit.offer, ask.requirements.resources, fit.fleet.spec.configuration.resources)
            slot = self._pool.want(fit.fleet, offer, fit.total_blocks, fit.blocks)
            seat = Seat(ask, fit.fleet, slot.machine, slot.machine.offer, fit.blocks, fit.total_blocks, True)
            return _Taken(seat, partial(self._pool.unwant, slot))
        return None

    def _take_shelved(self, ask: Ask, blocks: int, slot: Slot, shelf) -> _Taken:
        slot.free -= blocks
        shelf.put(slot)

        def undo() -> None:
            shelf.remove(slot)
            slot.free += blocks
            shelf.put(slot, front=True)

        seat = Seat(ask, shelf.fleet, slot.machine, shelf.offer, blocks, shelf.total_blocks, False)
        return _Taken(seat, undo)

    def _offers(self, fits: Fits, ask: Ask, region: Region | None) -> Iterator[OfferFit]:
        match_offers(self._pool, fits)
        for found in fits.offers:
            if found[0].offer.key in ask.tried:
                continue
            for fit in found:
                here = region is None or region == (fit.fleet.id, fit.offer.backend, fit.offer.region)
                if here and self._pool.room(fit.fleet) > 0:
                    yield fit

    def _fits_for(self, requirements: Requirements) -> Fits:
        fits = self._fits.get(requirements)
        if fits is None:
            fits = self._fits[requirements] = fits_of(self._pool, requirements)
        else:
            extend(self._pool, fits)
        return fits

    def _refuse(self, unit: Unit) -> Waiting | Unplaceable:
        """By the first kind of node for which there is nothing at all, else by the first."""
        looked_at = [self._looked_at(ask) for ask in _kinds(unit)]
        fits, funnel = next((one for one in looked_at if not one[1].fitting), looked_at[0])
        report = with_hosts(funnel.report(self._at), fits, IN_A_TURN)
        leaving = self._leaving(fits)
        if leaving:
            return Waiting(unit, report.model_copy(update={"waiting_for": f"{min(leaving)} to be gone"}))
        coming = [slot.names[0] for miss, shelf in fits.shelf_misses if miss.stage == "setup" for slot in shelf.slots()]
        if coming:
            return Waiting(unit, report.model_copy(update={"waiting_for": f"{min(coming)} to be set up"}))
        return Unplaceable(unit, report, self._reason(unit, fits, funnel))

    def _looked_at(self, ask: Ask) -> tuple[Fits, Funnel]:
        fits = self._fits_for(ask.requirements)
        return fits, funnel_of(self._pool, fits, ask.tried)

    def _reason(self, unit: Unit, fits: Fits, funnel: Funnel) -> str | None:
        if funnel.fitting and len(unit.asks) > 1:
            most, where = max(((self._most(fits, r), r[0]) for r in self._regions(unit)), default=(0, ""))
            fleet = next((f.name for f in self._pool.fleets if f.id == where), "")
            has = f"can have {most}" if most < len(unit.asks) else "has no room for all of their kinds"
            return f"{len(unit.asks)} nodes are needed at once, fleet '{fleet}' {has}"
        best = funnel.best()
        return best.sentence() if best else None

    def _most(self, fits: Fits, region: Region) -> int:
        """How many nodes of one kind have room in a region."""
        most = 0.0
        for fit in fits.shelves:
            shelf = fit.shelf
            if region == (shelf.fleet.id, shelf.offer.backend, shelf.offer.region):
                most += shelf.with_room(fit.blocks, fits.names)
        offers = (fit for found in fits.offers for fit in found)
        here = next((f for f in offers if region == (f.fleet.id, f.offer.backend, f.offer.region)), None)
        return int(min(most + (self._pool.room(here.fleet) if here else 0), 1e9))

    def _leaving(self, fits: Fits) -> Sequence[str]:
        """Machines that are about to go, in fleets where an offer fits but the maximum is reached."""
        for found in fits.offers:
            for fit in found:
                names = self._pool.leaving.get(fit.fleet.id, ())
                if names and self._pool.room(fit.fleet) <= 0:
                    return names
        return ()


def _kinds(unit: Unit) -> list[Ask]:
    """An ask of each kind, in their order."""
    kinds: dict[Requirements, Ask] = {}
    for ask in unit.asks:
        kinds.setdefault(ask.requirements, ask)
    return list(kinds.values())


@dataclass(eq=False, slots=True)
class _Taken:
    seat: Seat
    undo: Callable[[], None]


def _undo(taken: list[_Taken]) -> None:
    for one in reversed(taken):
        one.undo()
