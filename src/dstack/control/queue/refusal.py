"""The message of a job for which there is no place."""

from __future__ import annotations

from collections.abc import Iterable

from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.job import Job

NO_FLEET = "No matching fleet found."


def refusal(job: Job, fleets: Iterable[Fleet], best: str | None) -> str:
    """Says what was looked for where, and the likeliest thing that stood in the way."""
    r = job.spec.requirements
    active = sorted(f.name for f in fleets if f.status is FleetStatus.ACTIVE and f.delete_requested_at is None)
    if not active:
        return f"{NO_FLEET} The project has no fleets"
    usable = active if r.fleets is None else [name for name in active if name in r.fleets]
    if not usable:
        return f"Failed to use specified fleets: {', '.join(r.fleets or ())}"
    tail = f" {best}" if best else ""
    if r.instances is not None:
        return f"Failed to use specified instances: {', '.join(r.instances)}.{tail}"
    if r.reuse_only:
        return f"Could not reuse any instance for this job.{tail}"
    return f"No offers matching the run requirements in {_fleets(usable)}.{tail}"


def _fleets(names: list[str]) -> str:
    quoted = ", ".join(f"'{n}'" for n in names)
    return f"fleet {quoted}" if len(names) == 1 else f"fleets {quoted}"
