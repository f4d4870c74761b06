"""One matching for all: what in a pool can serve some requirements, cheapest first, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from dstack.control.scheduling.disks import with_disk
from dstack.control.scheduling.each import IN_A_PLAN, with_hosts
from dstack.control.scheduling.fits import Fits, OfferFit, ShelfFit
from dstack.control.scheduling.match import Machine, all_misses, first_miss, fit_blocks, share
from dstack.control.scheduling.needs import Needs, of_fleet, of_requirements
from dstack.control.scheduling.pool import UNHEALTHY, Pool, Shelf
from dstack.control.scheduling.reasons import Funnel, Miss
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.instance import Instance
from dstack.model.job import PlacementReport
from dstack.model.offer import Availability, Offer, Resources
from dstack.model.requirements import Requirements


@dataclass(frozen=True, slots=True)
class Candidate:
    """An existing instance or an offer that can serve, by `blocks` of the `total_blocks` into which it is cut."""

    offer: Offer
    availability: Availability
    fleet: Fleet | None = None
    instance: Instance | None = None
    blocks: int = 1
    total_blocks: int = 1

    @property
    def price(self) -> float:
        """Of the blocks, $ per hour."""
        return self.offer.price * self.blocks / self.total_blocks

    @property
    def resources(self) -> Resources:
        """What the blocks have."""
        return share(self.offer.resources, self.blocks, self.total_blocks)

    def whole(self) -> Candidate:
        return replace(self, blocks=self.total_blocks)

    def unallocated(self) -> Candidate:
        """All that is free of it."""
        return self.whole() if self.instance is None else replace(self, blocks=self.instance.free_blocks)


@dataclass(frozen=True, slots=True)
class Matching:
    """`candidates` in the order in which placement would take them; `busy` fit but are taken just now."""

    candidates: tuple[Candidate, ...]
    busy: tuple[Candidate, ...]
    report: PlacementReport
    best_reason: str | None  # the likeliest thing to change, in words
    hint: str | None


def candidates(
    requirements: Requirements,
    fleets: Iterable[Fleet] | None,
    instances: Iterable[Instance],
    offers: Iterable[Offer],
    *,
    at: float = 0.0,
) -> Matching:
    """What can serve; `fleets` None asks about offers alone, as if one fleet allowed everything."""
    pool = Pool([_anything()] if fleets is None else fleets, instances, offers)
    pool.shelve_full()
    fits = fits_of(pool, requirements)
    match_offers(pool, fits)
    free: list[Candidate] = []
    busy: list[Candidate] = []
    for fit in fits.shelves:
        for slots in fit.shelf.by_free.values():
            for slot in slots:
                if isinstance(slot.machine, Instance) and (fits.names is None or fits.names.intersection(slot.names)):
                    (free if slot.free >= fit.blocks else busy).append(_of_instance(fit, slot.machine))
    made = (_of_offer(pool, requirements, found, fleets is None) for found in fits.offers)
    free += [candidate for candidate in made if candidate is not None]
    funnel = funnel_of(pool, fits, frozenset())
    best, report = funnel.best(), with_hosts(funnel.report(at), fits, IN_A_PLAN)
    hint = (not free and _smallest_change(pool, requirements)) or (best.hint if best is not None else None)
    return Matching(tuple(free), tuple(busy), report, best and best.sentence(), hint)


def _smallest_change(pool: Pool, requirements: Requirements) -> str | None:
    """What makes some offer fit: of those that miss least, all that has to change. None where nobody can say it.

    The first miss alone would send a person from one wall to the next one.
    """
    needs = of_requirements(requirements)
    ways: list[tuple[int, float, float, str]] = []
    for offer in pool.offers:
        machine = Machine(offer, offer.resources, offer.price)
        own = all_misses(needs, machine)
        for fleet in pool.fleets:
            if _closed(requirements, fleet) or _no_creation(requirements, fleet) or not pool.room(fleet):
                continue
            misses = own + all_misses(pool.templates[fleet.id], machine)
            hints = [miss.hint for miss in misses if miss.hint]
            if misses and len(hints) == len(misses):
                ways.append(
                    (len(hints), sum(m.distance for m in misses), offer.price, " and ".join(dict.fromkeys(hints)))
                )
    return min(ways)[3] if ways else None


def fleet_candidates(configuration: FleetConfiguration, offers: Iterable[Offer], *, at: float = 0.0) -> Matching:
    """The offers by which a fleet of this configuration would make instances, cheapest first."""
    fleet = _fleet(configuration)
    needs = of_fleet(fleet)
    funnel = Funnel()
    found: list[Candidate] = []
    for offer in Pool([], (), offers).offers:
        total = total_blocks(configuration, offer)
        miss = total if isinstance(total, Miss) else first_miss(needs, Machine(offer, offer.resources, offer.price))
        if miss is not None:
            funnel.drops(miss)
        elif not isinstance(total, Miss):
            funnel.fits()
            made = with_disk(offer, configuration.resources)
            found.append(Candidate(made, offer.availability, None, None, total, total))
    best = funnel.best()
    return Matching(tuple(found), (), funnel.report(at), best and best.sentence(), best.hint if best else None)


def fits_of(pool: Pool, requirements: Requirements) -> Fits:
    """Match what the pool has. Offers follow when they are needed."""
    names = frozenset(requirements.instances) if requirements.instances is not None else None
    fits = Fits(requirements, names)
    needs = of_requirements(requirements)
    extend(pool, fits, needs)
    return fits


def match_offers(pool: Pool, fits: Fits) -> None:
    """Match the offers, once: while existing machines serve, nobody needs to know."""
    if fits.offers_seen:
        return
    fits.offers_seen = True
    needs = of_requirements(fits.requirements)
    for offer in pool.offers:
        _match_offer(pool, fits, needs, offer)


def extend(pool: Pool, fits: Fits, needs: Needs | None = None) -> None:
    """Match the shelves that appeared since the last look."""
    if fits.seen_shelves == len(pool.shelves):
        return
    needs = needs or of_requirements(fits.requirements)
    for shelf in pool.shelves[fits.seen_shelves :]:
        found = _match_shelf(fits.requirements, needs, shelf)
        if isinstance(found, Miss):
            fits.shelf_misses.append((found, shelf))
        else:
            fits.shelves.append(ShelfFit(shelf, found))
    fits.seen_shelves = len(pool.shelves)
    fits.shelves.sort(key=ShelfFit.order)


def funnel_of(pool: Pool, fits: Fits, tried: frozenset[str]) -> Funnel:
    """The funnel as it stands now: what fits but is taken, or has just been tried, counts as dropped."""
    pool.shelve_full()
    extend(pool, fits)
    match_offers(pool, fits)
    funnel = Funnel()
    for miss, shelf in fits.shelf_misses:
        funnel.drops(miss, _named(funnel, fits, shelf))
    for fit in fits.shelves:
        named = _named(funnel, fits, fit.shelf)
        free = fit.shelf.with_room(fit.blocks, fits.names)
        funnel.fits(free)
        busy = Miss("busy", "all that fit are busy", nearest=fit.shelf.offer.instance_type)
        funnel.drops(busy, named - free)
    for miss in fits.offer_misses:
        funnel.drops(miss)
    for found in fits.offers:
        miss = _taken(pool, found, tried)
        funnel.fits() if miss is None else funnel.drops(miss)
    return funnel


def total_blocks(configuration: FleetConfiguration, offer: Offer) -> int | Miss:
    """Into how many blocks the fleet cuts a machine of this offer."""
    return blocks_of(configuration.blocks, offer)


def blocks_of(written: int | Literal["auto"], offer: Offer) -> int | Miss:
    """Into how many blocks a machine of this offer is cut, as `blocks` is written."""
    gpus, cpus = len(offer.resources.gpus), offer.resources.cpus
    if written == 1 or (written == "auto" and offer.containers_only):
        return 1
    if offer.containers_only:
        return Miss("blocks", f"backend {offer.backend} runs containers only, without `blocks`", hint="set `blocks: 1`")
    if written == "auto":
        return max(gpus or cpus, 1)
    if (gpus or cpus) % written:
        what = f"{gpus} GPUs" if gpus else f"{cpus} cores"
        reason = f"{what} cannot be divided into {written} blocks"
        return Miss("blocks", reason, nearest=offer.instance_type, hint="set `blocks: auto`")
    return written


_CLOSED = {
    "cordoned": Miss("cordoned", "the instance takes no new jobs", hint="`dstack fleet uncordon`"),
    "occupied": Miss(
        "occupied",
        "it runs what no job of this server answers for",
        hint="`dstack why FLEET` tells more; it is free when that has ended",
    ),
    "setup": Miss("setup", "the host is not set up yet"),
    "unfit": Miss("unfit", "the host cannot be used as it is", hint="`dstack fleet -v` tells what mends it"),
    "network": Miss(
        "network",
        "the host has no network in common with the others",
        hint="set `network`, or `internal_ip` of each host, in the fleet; `dstack why FLEET` tells what each has",
    ),
}


def _match_shelf(requirements: Requirements, needs: Needs, shelf: Shelf) -> int | Miss:
    miss = _closed(requirements, shelf.fleet)
    if miss is not None:
        return miss
    if shelf.closed:
        words = shelf.closed.removeprefix(UNHEALTHY)
        return _CLOSED.get(shelf.closed) or Miss("unhealthy", f"the accelerators failed: {words}")
    if not shelf.reachable:
        return Miss("unreachable", "the machine does not answer", nearest=shelf.offer.instance_type)
    if requirements.multinode and shelf.apart:
        return _CLOSED[shelf.apart]
    return fit_blocks(needs, shelf.offer, shelf.total_blocks, created=True, whole=requirements.multinode)


def _match_offer(pool: Pool, fits: Fits, needs: Needs, offer: Offer) -> None:
    """An offer is tried in every fleet, and dropped by the one where it got furthest."""
    found: list[OfferFit] = []
    closest: Miss | None = None
    for fleet in pool.fleets:
        result = _match_offer_in(pool, fits.requirements, needs, offer, fleet)
        if isinstance(result, OfferFit):
            found.append(result)
        elif closest is None or result.closer_than(closest):
            closest = result
    if found:
        fits.offers.append(found)
    else:
        fits.offer_misses.append(closest or Miss("fleet", "the project has no fleets"))


def _match_offer_in(
    pool: Pool, requirements: Requirements, needs: Needs, offer: Offer, fleet: Fleet
) -> OfferFit | Miss:
    miss = _closed(requirements, fleet) or _no_creation(requirements, fleet)
    if miss is not None:
        return miss
    total = total_blocks(fleet.spec.configuration, offer)
    if isinstance(total, Miss):
        return total
    blocks = fit_blocks(needs, offer, total, created=False, whole=requirements.multinode)
    if isinstance(blocks, Miss):
        return blocks
    template_miss = first_miss(pool.templates[fleet.id], Machine(offer, offer.resources, offer.price))
    return template_miss or OfferFit(offer, fleet, blocks, total)


def _closed(requirements: Requirements, fleet: Fleet) -> Miss | None:
    """Why the run may not use the fleet at all."""
    if requirements.fleets is not None and fleet.name not in requirements.fleets:
        return Miss("fleet", f"not in `fleets: {', '.join(sorted(requirements.fleets))}`", nearest=fleet.name)
    configuration = fleet.spec.configuration
    if requirements.multinode and configuration.placement != "cluster":
        return Miss("fleet", f"fleet '{fleet.name}' is no cluster", hint="set `placement: cluster` in the fleet")
    asked, has = requirements.reservation, configuration.reservation
    if asked is not None and has is not None and asked != has:
        return Miss("fleet", f"fleet '{fleet.name}' uses the reservation {has}", nearest=has)
    return None


def _no_creation(requirements: Requirements, fleet: Fleet) -> Miss | None:
    if requirements.instances is not None:
        return Miss("fleet", "`instances` allow existing instances only")
    if requirements.reuse_only:
        return Miss("fleet", "`creation_policy: reuse` allows existing instances only")
    if fleet.spec.configuration.nodes is None:
        return Miss("fleet", f"fleet '{fleet.name}' consists of given hosts")
    return None


def _named(funnel: Funnel, fits: Fits, shelf: Shelf) -> int:
    """How many machines of the shelf `instances` allow; the others are dropped."""
    if fits.names is None:
        return shelf.size
    named = shelf.with_room(0, fits.names)
    slots = (slot for slots in shelf.by_free.values() for slot in slots)
    nearest = next((slot.names[0] for slot in slots if slot.names and fits.names.isdisjoint(slot.names)), None)
    wanted = ", ".join(sorted(fits.names))
    funnel.drops(Miss("instance", f"not in `instances: {wanted}`", nearest=nearest), shelf.size - named)
    return named


def _taken(pool: Pool, found: list[OfferFit], tried: frozenset[str]) -> Miss | None:
    """Why an offer that fits cannot be had now."""
    if found[0].offer.key in tried:
        return Miss("create", "tried just now, without success", nearest=found[0].offer.key)
    if any(pool.room(fit.fleet) > 0 for fit in found):
        return None
    fleet = found[0].fleet
    nodes = fleet.spec.configuration.nodes
    most = nodes.max if nodes and nodes.max is not None else 0
    return Miss(
        "full",
        f"fleet '{fleet.name}' has its maximum of {most} instance{'s' if most != 1 else ''}",
        hint=f"set `nodes: {nodes.min if nodes else 0}..{most + 1}` in the fleet",
    )


def _of_instance(fit: ShelfFit, instance: Instance) -> Candidate:
    free = instance.free_blocks >= fit.blocks
    status = Availability.IDLE if free else Availability.BUSY
    return Candidate(fit.shelf.offer, status, fit.shelf.fleet, instance, fit.blocks, fit.shelf.total_blocks)


def _of_offer(pool: Pool, asked: Requirements, found: list[OfferFit], no_fleets: bool) -> Candidate | None:
    fit = next((f for f in found if pool.room(f.fleet) > 0), None)
    if fit is None:
        return None
    offer = with_disk(fit.offer, asked.resources, fit.fleet.spec.configuration.resources)
    return Candidate(offer, offer.availability, None if no_fleets else fit.fleet, None, fit.blocks, fit.total_blocks)


def _anything() -> Fleet:
    return _fleet(FleetConfiguration.model_validate({"nodes": "0..", "spot_policy": "auto"}))


def _fleet(configuration: FleetConfiguration) -> Fleet:
    spec = FleetSpec(configuration=configuration)
    return Fleet(id="", project_id="", created_at=0.0, name=configuration.name or "", spec=spec)
