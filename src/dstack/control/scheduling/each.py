"""Why each host of one's own does not serve: the funnel counts, a person with a list of hosts wants names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from dstack.control.scheduling.fits import Fits
from dstack.control.scheduling.pool import Shelf, Slot
from dstack.control.scheduling.reasons import Miss
from dstack.model.instance import Instance
from dstack.model.job import HostMiss, PlacementReport

IN_A_TURN = 5  # kept with the job
IN_A_PLAN = 50  # shown to somebody who asks
IN_A_LINE = 3


def with_hosts(report: PlacementReport, fits: Fits, most: int) -> PlacementReport:
    """The report, with the hosts that cannot take such a job now; `most` of them by name.

    Call it after `funnel_of`, which looks at all machines. Hosts that the run itself leaves out, by `fleets` or
    `instances`, are not named: there may be hundreds, and whoever wrote that knows. What is wrong with a whole fleet
    is said once, by the funnel.
    """
    found: list[tuple[Instance, Miss]] = []
    count = 0
    for miss, shelf, slots in _left_out(fits):
        few = list(islice(slots, most))
        count += len(few) + sum(1 for _ in slots)
        found += [(_instance(slot), miss or _busy(slot, shelf)) for slot in few]
    found.sort(key=lambda one: (one[0].fleet_name, one[0].num))
    shown = tuple(
        HostMiss(instance=host.name, host=host.remote.key, reason=_reason(host, miss))
        for host, miss in found[:most]
        if host.remote is not None
    )
    return report.model_copy(update={"hosts": shown, "more_hosts": count - len(shown)}) if shown else report


def in_a_line(report: PlacementReport) -> str:
    """`lab-0: busy: no block is free; lab-1: cordoned: the instance takes no new jobs; 4 more`; "" without hosts."""
    named: Sequence[HostMiss] = report.hosts[:IN_A_LINE]
    more = len(report.hosts) - len(named) + report.more_hosts
    parts = [f"{one.instance}: {one.reason}" for one in named]
    return "; ".join([*parts, f"{more} more"] if more else parts)


def _reason(host: Instance, miss: Miss) -> str:
    """What is known of this host says more than what its kind of trouble is called."""
    if miss.stage == "unfit" and host.report is not None and host.report.failed:
        return "; ".join(f"{one.check}: {one.message}" for one in host.report.failed)
    if miss.stage == "unreachable" and host.unreachable_message:
        return f"unreachable: {host.unreachable_message}"
    return miss.of_one()


def _left_out(fits: Fits) -> Iterator[tuple[Miss | None, Shelf, Iterator[Slot]]]:
    """Hosts of each shelf with the miss of all; None: they would fit, were they free."""
    allowed = fits.requirements.fleets
    for miss, shelf in fits.shelf_misses:
        if miss.stage != "fleet" and _of_hosts(shelf, allowed):
            yield miss, shelf, (slot for slot in shelf.slots() if _named(fits, slot))
    for fit in fits.shelves:
        if _of_hosts(fit.shelf, allowed):
            full = (slot for slot in fit.shelf.slots() if slot.free < fit.blocks and _named(fits, slot))
            yield None, fit.shelf, full


def _of_hosts(shelf: Shelf, allowed: Sequence[str] | None) -> bool:
    ours = shelf.fleet.spec.configuration.ssh_config is not None
    return ours and (allowed is None or shelf.fleet.name in allowed)


def _named(fits: Fits, slot: Slot) -> bool:
    ours = isinstance(slot.machine, Instance) and slot.machine.remote is not None
    return ours and (fits.names is None or not fits.names.isdisjoint(slot.names))


def _instance(slot: Slot) -> Instance:
    assert isinstance(slot.machine, Instance)  # as `_named` says
    return slot.machine


def _busy(slot: Slot, shelf: Shelf) -> Miss:
    if shelf.total_blocks == 1:
        return Miss("busy", "it runs another job")
    return Miss("busy", f"{slot.free} of {shelf.total_blocks} blocks {'is' if slot.free == 1 else 'are'} free")
