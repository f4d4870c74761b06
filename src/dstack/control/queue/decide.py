"""Placement as a decision: one unit of commitment for each gang, over one snapshot of the pool."""

from __future__ import annotations

from collections.abc import Iterable

from dstack.control import wording
from dstack.control.kernel import Decision, Draft, Turn
from dstack.control.policy.deadlines import QUEUE_WAIT_S, RECHECK_S
from dstack.control.queue.ledger import Ledger
from dstack.control.queue.refusal import refusal
from dstack.control.queue.seating import Seating
from dstack.control.scheduling.place import Ask, Outcome, Placed, Unit, Unplaceable, Waiting, place
from dstack.control.scheduling.pool import Pool
from dstack.control.snapshots import QueueSnapshot
from dstack.model.job import Job, JobStatus, PlacementReport
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.queue import Queue
from dstack.model.row import Ref

# Units of one turn: more would make the transaction long, and the newest jobs wait for the oldest anyway.
MAX_UNITS = 500

Gang = tuple[Job, ...]


def decide(s: QueueSnapshot, now: float) -> Turn:
    gangs = _gangs(s.jobs)
    if not gangs:  # the usual turn: something became free and nobody waits
        return Turn(_own(s, now, now + RECHECK_S))
    outcomes = _outcomes(s, gangs, now)
    ledger = Ledger()
    seating = Seating(s.queue, ledger, now)
    wake_at = now + RECHECK_S if len(outcomes) == len(gangs) else now
    units: list[Decision] = []
    for gang, outcome in zip(gangs, outcomes, strict=False):
        match outcome:
            case Placed():
                unit = seating.seat(gang, outcome)
            case Waiting(report=report) if now < gang[0].submitted_at + QUEUE_WAIT_S:
                unit = _wait(s.queue, gang, report, now)
                wake_at = min(wake_at, gang[0].submitted_at + QUEUE_WAIT_S)
            case Waiting(report=report):
                unit = _refuse(s, gang, report, report.waiting_for and f"waited for {report.waiting_for}", now)
            case Unplaceable(report=report, best_reason=best):
                unit = _refuse(s, gang, report, best, now)
        if unit is not None:
            ledger.accept(unit)
            units.append(unit)
    return Turn(_own(s, now, wake_at), tuple(units))


def _outcomes(s: QueueSnapshot, gangs: list[Gang], now: float) -> list[Outcome]:
    """What becomes of the first gangs. Those that only wait must not hold up the ones behind them, nor make the queue
    look again and again: when all of a turn do, it goes on with the next."""
    pool = Pool(s.fleets, s.instances, s.offers)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(gangs) and all(isinstance(o, Waiting) for o in outcomes):
        some = gangs[len(outcomes) : len(outcomes) + MAX_UNITS]
        outcomes += place(pool, [_unit(g) for g in some], at=now)
    return outcomes


def _own(s: QueueSnapshot, now: float, wake_at: float) -> Decision:
    own = Draft(s.queue, now, s.pending)
    for received in s.inbox:
        own.consume(received)
    return own.finish(wake_at)


def _gangs(jobs: Iterable[Job]) -> list[Gang]:
    """The submissions of one replica together, in the order of the queue. Incomplete ones wait for the rest."""
    found: dict[tuple[str, int, int], list[Job]] = {}
    for job in jobs:
        if job.status is JobStatus.SUBMITTED and job.stop_reason is None:
            found.setdefault((job.run_id, job.replica_num, job.submission_num), []).append(job)
    gangs = [tuple(sorted(g, key=lambda j: j.job_num)) for g in found.values() if _complete(g)]
    return sorted(gangs, key=lambda g: (-g[0].priority, g[0].submitted_at, g[0].run_id, g[0].replica_num))


def _complete(gang: list[Job]) -> bool:
    """All of a replica, or those that lost their place while the others keep theirs."""
    return len(gang) == gang[0].spec.jobs_per_replica or all(j.place is not None for j in gang)


def _unit(gang: Gang) -> Unit:
    asks = tuple(
        Ask(j.id, j.spec.requirements, frozenset(j.tried_offers), _beside(j) if len(gang) < _size(j) else None)
        for j in gang
    )
    return Unit(gang[0].run_id, asks, together=_size(gang[0]) > 1)


def _size(job: Job) -> int:
    return job.spec.jobs_per_replica


def _beside(job: Job) -> tuple[str, str, str] | None:
    return (job.place.fleet_id, job.place.offer.backend, job.place.offer.region) if job.place else None


def _wait(queue: Queue, gang: Gang, report: PlacementReport, now: float) -> Decision | None:
    """Keep the reason where the person sees it; nothing is written when it has not changed."""
    d = Draft(queue, now)
    for job in gang:
        if not _same(job.placement, report):
            d.change(job, placement=_with_earlier(job, report))
    unit = d.finish(now)
    return unit if unit.changes else None


def _refuse(s: QueueSnapshot, gang: Gang, report: PlacementReport, best: str | None, now: float) -> Decision:
    d = Draft(s.queue, now)
    for job in gang:
        message = refusal(job, s.fleets, best, report)
        reason = Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY
        text = wording.status_changed(job, JobStatus.TERMINATING, reason, message)
        d.event(text, wording.target(job))
        d.change(
            job,
            status=JobStatus.TERMINATING,
            termination_reason=reason,
            termination_message=message,
            placement=_with_earlier(job, report),
            terminating_deadline=now,
            last_processed_at=now,
        )
        d.wake(job.ref, Ref("run", job.run_id))
    return d.finish(now)


def _with_earlier(job: Job, report: PlacementReport) -> PlacementReport:
    """Offers that were tried and had nothing stay in the report with what their providers said."""
    tried = tuple(d for d in (job.placement.drops if job.placement else ()) if d.stage == "create" and d.nearest)
    if not tried:
        return report
    drops = tuple(d for d in report.drops if d.stage != "create")
    return report.model_copy(update={"drops": (*drops, *tried)})


def _same(old: PlacementReport | None, new: PlacementReport) -> bool:
    return old is not None and old.waiting_for == new.waiting_for
