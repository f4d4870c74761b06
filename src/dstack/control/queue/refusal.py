"""The message of a job for which there is no place."""

from __future__ import annotations

from collections.abc import Iterable

from dstack.control.scheduling.each import in_a_line
from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.job import Job, PlacementReport

NO_FLEET = "No matching fleet found."


def refusal(job: Job, fleets: Iterable[Fleet], best: str | None, report: PlacementReport) -> str:
    """Says what was looked for where, and what stood in the way: on each host, where there are hosts."""
    r = job.spec.requirements
    active = sorted(f.name for f in fleets if f.status is FleetStatus.ACTIVE and f.delete_requested_at is None)
    if not active:
        return f"{NO_FLEET} The project has no fleets"
    usable = active if r.fleets is None else [name for name in active if name in r.fleets]
    if not usable:
        return f"Failed to use specified fleets: {', '.join(r.fleets or ())}"
    tail = "".join(f" {text}" for text in _in_the_way(job, best, report))
    if r.instances is not None:
        return f"Failed to use specified instances: {', '.join(r.instances)}.{tail}"
    if r.reuse_only:
        return f"Could not reuse any instance for this job.{tail}"
    return f"No offers matching the run requirements in {_fleets(usable)}.{tail}"


def _in_the_way(job: Job, best: str | None, report: PlacementReport) -> list[str]:
    hosts = in_a_line(report)
    if not hosts:
        return [best] if best else []
    machines = sum(drop.count for drop in report.drops if drop.stage != "fleet")
    others = machines > len(report.hosts) + report.more_hosts
    # What stood in the way of the nearest says nothing more, unless it was an offer's, or is about all nodes together.
    return [f"{best}.", hosts] if best and (others or job.spec.jobs_per_replica > 1) else [hosts]


def _fleets(names: list[str]) -> str:
    quoted = ", ".join(f"'{n}'" for n in names)
    return f"fleet {quoted}" if len(names) == 1 else f"fleets {quoted}"
