"""Plans on the wire: what an apply would do, with offers, prices and the funnel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dstack.control.scheduling import Candidate, Matching
from dstack.model.fleet import FleetSpec
from dstack.model.images import Images
from dstack.model.job import JobSpec
from dstack.model.run import RunSpec
from dstack.server.services.wire import offers, specs
from dstack.server.services.wire.encoding import Encoded, encoded_object
from dstack.server.services.wire.values import instant, plain


@dataclass(frozen=True)
class JobPlan:
    spec: JobSpec
    matching: Matching


@dataclass(frozen=True)
class RunPlan:
    """`current` is the rendered run of that name that is not finished."""

    project_name: str
    username: str
    spec: RunSpec
    effective: RunSpec
    jobs: tuple[JobPlan, ...]
    current: dict[str, Any] | None
    action: str
    notices: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    next_triggered_at: float | None = None


@dataclass(frozen=True)
class FleetPlan:
    project_name: str
    username: str
    spec: FleetSpec
    effective: FleetSpec
    matching: Matching
    current: Encoded | None
    action: str
    notices: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    hosts: tuple[dict[str, Any], ...] = ()  # of an SSH fleet, as rendered


@dataclass(frozen=True)
class Showing:
    """Which offers a client wants to see, and how: `full` machines, or all that is `unallocated` of them, instead of
    the blocks that the run would take."""

    limit: int | None = None
    reverse: bool = False
    full: bool = False
    unallocated: bool = False

    def of(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """All of them; the limit is for those that are shown."""
        ordered = list(reversed(candidates)) if self.reverse else list(candidates)
        if self.unallocated:
            return [one.unallocated() for one in ordered]
        return [one.whole() for one in ordered] if self.full else ordered


def run_plan(plan: RunPlan, showing: Showing, images: Images) -> dict[str, Any]:
    return {
        "project_name": plan.project_name,
        "user": plan.username,
        "run_spec": specs.run_spec(plan.spec),
        "effective_run_spec": specs.run_spec(plan.effective),
        "job_plans": [
            {
                "job_spec": specs.job_spec(one.spec, images),
                "offers": [offers.candidate(candidate) for candidate in found[: showing.limit]],
                "total_offers": len(found),
                "max_price": _max_price(found),
            }
            for one, found in ((job, showing.of(job.matching.candidates)) for job in plan.jobs)
        ],
        "current_resource": plan.current,
        "action": plan.action,
        "x_report": _report(plan.jobs[0].matching) if plan.jobs else None,
        "x_notices": list(plan.notices),
        "x_refusals": list(plan.refusals),
        "x_next_triggered_at": instant(plan.next_triggered_at),
    }


def fleet_plan(plan: FleetPlan, *, max_offers: int) -> Encoded:
    fields = {
        "project_name": plan.project_name,
        "user": plan.username,
        "spec": specs.fleet_spec(plan.spec),
        "effective_spec": specs.fleet_spec(plan.effective),
        "current_resource": plan.current,
        "offers": [offers.candidate(candidate) for candidate in plan.matching.candidates[:max_offers]],
        "total_offers": len(plan.matching.candidates),
        "max_offer_price": _max_price(plan.matching.candidates),
        "action": plan.action,
        "x_report": _report(plan.matching),
        "x_notices": list(plan.notices),
        "x_refusals": list(plan.refusals),
        "x_hosts": list(plan.hosts),
    }
    return encoded_object(fields)


def _max_price(candidates: Sequence[Candidate]) -> float | None:
    return max((one.price for one in candidates), default=None)


def _report(matching: Matching) -> dict[str, Any]:
    """The funnel, with the likeliest thing to change."""
    return plain(matching.report) | {
        "busy": len(matching.busy),
        "best_reason": matching.best_reason,
        "hint": matching.hint,
    }
