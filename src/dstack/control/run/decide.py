"""What a run does next: it follows its jobs, passes on intents, and is submitted again after failures."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.job import gang
from dstack.control.kernel import Decision, Draft
from dstack.control.policy import retry
from dstack.control.policy.deadlines import RECHECK_S
from dstack.control.run.submission import new_jobs, next_trigger
from dstack.control.snapshots import RunSnapshot
from dstack.ids import derived_id
from dstack.model.job import Job, JobStatus, JobTerminationReason
from dstack.model.profile import StopCriteria
from dstack.model.row import Ref
from dstack.model.run import Run, RunStatus, RunTerminationReason

RESUBMISSION = "Run is to be resubmitted"
MASTER_DONE = "The master node is done"


def queue_ref(project_id: str) -> Ref:
    """The queue of a project."""
    return Ref("queue", derived_id(project_id, "queue"))


def decide(s: RunSnapshot, now: float) -> Decision:
    d = Draft(s.run, now, s.pending)
    jobs = tuple(sorted(s.jobs, key=lambda j: (j.replica_num, j.job_num)))
    for received in s.inbox:
        d.consume(received)
    if s.run.terminal:
        return d.finish()
    if s.run.status is RunStatus.TERMINATING:
        _finish_terminating(d, jobs)
    elif s.run.stop_requested_at is not None or s.run.abort_requested:
        _stop_as_asked(d, jobs)
    elif s.run.status is RunStatus.PENDING:
        _resubmit_when_due(d, jobs)
    else:
        _follow(d, jobs)
    look_again = now if _ready_to_finish(d.row, jobs) else now + RECHECK_S
    return d.finish(d.row.next_attempt_at, d.row.next_triggered_at, look_again)


def _stop_as_asked(d: Draft[Run], jobs: tuple[Job, ...]) -> None:
    reason = RunTerminationReason.ABORTED_BY_USER if d.row.abort_requested else RunTerminationReason.STOPPED_BY_USER
    _terminate(d, jobs, reason)


def _terminate(d: Draft[Run], jobs: tuple[Job, ...], reason: RunTerminationReason, message: str | None = None) -> None:
    """Begin the end: every job that still lives is asked to end, for the reason that follows from the run's."""
    actor = d.row.stop_actor_id if reason in _JOB_REASONS else None
    text = wording.status_changed(d.row, RunStatus.TERMINATING, reason, message)
    d.event(text, wording.target(d.row), actor_id=actor)
    d.set(
        status=RunStatus.TERMINATING,
        termination_reason=reason,
        termination_message=message,
        next_attempt_at=None,
        next_triggered_at=None,
        last_processed_at=d.now,
    )
    _end_jobs(d, jobs, _JOB_REASONS.get(reason, JobTerminationReason.TERMINATED_BY_SERVER), message)


def _end_jobs(d: Draft[Run], jobs: tuple[Job, ...], reason: JobTerminationReason, message: str | None) -> None:
    for job in jobs:
        escalates = (
            reason is JobTerminationReason.ABORTED_BY_USER
            and job.stop_reason is not JobTerminationReason.ABORTED_BY_USER
        )
        if not job.terminal and (job.stop_reason is None or escalates):
            d.change(job, stop_reason=reason, stop_message=message)
            d.wake(job.ref)


def _finish_terminating(d: Draft[Run], jobs: tuple[Job, ...]) -> None:
    run = d.row
    if run.abort_requested and run.termination_reason is RunTerminationReason.STOPPED_BY_USER:
        run = d.set(termination_reason=RunTerminationReason.ABORTED_BY_USER)
    reason = run.termination_reason or RunTerminationReason.SERVER_ERROR
    if not all(j.terminal for j in jobs):
        _end_jobs(
            d,
            jobs,
            _JOB_REASONS.get(reason, JobTerminationReason.TERMINATED_BY_SERVER),
            run.termination_message,
        )
        return
    trigger = None if reason in _JOB_REASONS else next_trigger(run.spec, d.now)
    if trigger is not None:
        _wait_for_schedule(d, reason, trigger)
        return
    d.event(wording.status_changed(run, reason.final_status), wording.target(run))
    d.set(status=reason.final_status, finished_at=d.now, last_processed_at=d.now)


def _wait_for_schedule(d: Draft[Run], ended: RunTerminationReason, trigger: float) -> None:
    """Its next time; those that passed while it ran, or while no server did, are not made up for."""
    text = wording.status_changed(d.row, RunStatus.PENDING)
    d.event(f"{text}. It ended {ended.final_status}, its schedule starts it again", wording.target(d.row))
    d.set(
        status=RunStatus.PENDING,
        next_triggered_at=trigger,
        termination_reason=None,
        termination_message=None,
        retry_since=None,
        retry_attempts=0,
        fleet_id=None,
        last_processed_at=d.now,
    )


def _ready_to_finish(run: Run, jobs: tuple[Job, ...]) -> bool:
    """It began to terminate in this very turn and no job will wake it."""
    return run.status is RunStatus.TERMINATING and all(j.terminal for j in jobs)


def _resubmit_when_due(d: Draft[Run], jobs: tuple[Job, ...]) -> None:
    run = d.row
    retried = run.next_attempt_at is not None
    at = run.next_attempt_at if retried else run.next_triggered_at
    if at is None or at > d.now:
        return
    attempt = run.attempt + 1 if jobs else run.attempt
    for job in new_jobs(run, attempt, d.now):
        d.create(job)
        d.event(f"Job created on {'retry' if retried else 'schedule'}. Status: SUBMITTED", wording.target(job))
    d.event(wording.status_changed(run, RunStatus.SUBMITTED), wording.target(run))
    d.set(
        status=RunStatus.SUBMITTED,
        attempt=attempt,
        retry_attempts=run.retry_attempts + 1 if retried else 0,
        next_attempt_at=None,
        next_triggered_at=None,
        last_processed_at=d.now,
    )
    d.wake(queue_ref(run.project_id))


def _follow(d: Draft[Run], jobs: tuple[Job, ...]) -> None:
    limited = next((j for j in jobs if j.termination_reason in _LIMITS), None)
    if limited is not None and limited.termination_reason is not None:
        _terminate(d, jobs, _LIMITS[limited.termination_reason], limited.termination_message)
        return
    failed = [j for j in jobs if j.termination_reason and j.termination_reason.final_status is JobStatus.FAILED]
    if failed:
        _after_failure(d, jobs, failed)
        return
    done = [j for j in jobs if j.termination_reason is JobTerminationReason.DONE_BY_RUNNER]
    if any(j.job_num == 0 and j.spec.stop_criteria is StopCriteria.MASTER_DONE for j in done):
        _terminate(d, jobs, RunTerminationReason.ALL_JOBS_DONE, MASTER_DONE if len(done) < len(jobs) else None)
        return
    if jobs and len(done) == len(jobs):
        _terminate(d, jobs, RunTerminationReason.ALL_JOBS_DONE)
        return
    stray = [j for j in jobs if j.termination_reason not in (None, JobTerminationReason.DONE_BY_RUNNER)]
    if stray:
        _terminate(d, jobs, RunTerminationReason.SERVER_ERROR, f"Job {stray[0].spec.name} ended unasked")
        return
    d.wake(*(j.ref for j in gang.released(jobs)))
    _take_status(d, jobs)


def _after_failure(d: Draft[Run], jobs: tuple[Job, ...], failed: list[Job]) -> None:
    since = _series_began(d, failed)
    first = min(failed, key=lambda j: (j.terminating_deadline or 0.0, j.job_num))
    why = _why_failed(first)
    match retry.verdict(failed, since, d.now):
        case retry.Verdict.NOT_COVERED:
            _terminate(d, jobs, RunTerminationReason.JOB_FAILED, why)
        case retry.Verdict.EXPIRED:
            _terminate(d, jobs, RunTerminationReason.RETRY_LIMIT_EXCEEDED, why)
        case retry.Verdict.RETRY if all(j.terminal for j in jobs):
            _wait_for_next_attempt(d)
        case retry.Verdict.RETRY:
            message = f"{RESUBMISSION}: {why}" if why else RESUBMISSION
            _end_jobs(d, jobs, JobTerminationReason.TERMINATED_BY_SERVER, message)


def _why_failed(job: Job) -> str | None:
    """Its own message; of one of several nodes also which."""
    message = job.termination_message
    if not job.is_gang:
        return message
    return f"{wording.node(job).capitalize()} failed" + (f": {message}" if message else "")


def _series_began(d: Draft[Run], failed: list[Job]) -> float:
    """When the present series of failures began. What was never placed waits since the submission."""
    run = d.row
    if run.retry_since is None:
        since = run.submitted_at if _never_placed(failed) else d.now
    elif retry.was_healthy_since(failed, run.retry_since):
        since = d.now
    else:
        return run.retry_since
    d.set(retry_since=since, retry_attempts=0)
    return since


def _never_placed(failed: list[Job]) -> bool:
    return all(j.termination_reason is JobTerminationReason.FAILED_TO_START_DUE_TO_NO_CAPACITY for j in failed)


def _wait_for_next_attempt(d: Draft[Run]) -> None:
    run = d.row
    at = d.now + retry.delay(run.retry_attempts)
    d.event(wording.status_changed(run, RunStatus.PENDING), wording.target(run))
    d.set(status=RunStatus.PENDING, next_attempt_at=at, last_processed_at=d.now)


def _take_status(d: Draft[Run], jobs: tuple[Job, ...]) -> None:
    run = d.row
    place = next((j.place for j in jobs if j.place is not None), None)
    if run.fleet_id is None and place is not None:
        run = d.set(fleet_id=place.fleet_id)
    status = _status_of(jobs)
    if status is None or status is run.status:
        return
    d.event(wording.status_changed(run, status), wording.target(run))
    d.set(status=status, last_processed_at=d.now)


def _status_of(jobs: tuple[Job, ...]) -> RunStatus | None:
    """The furthest of the jobs that still have something before them."""
    statuses = {j.status for j in jobs}
    if JobStatus.RUNNING in statuses:
        return RunStatus.RUNNING
    if statuses & {JobStatus.PROVISIONING, JobStatus.PULLING}:
        return RunStatus.PROVISIONING
    return RunStatus.SUBMITTED if JobStatus.SUBMITTED in statuses else None


_JOB_REASONS = {
    RunTerminationReason.STOPPED_BY_USER: JobTerminationReason.TERMINATED_BY_USER,
    RunTerminationReason.ABORTED_BY_USER: JobTerminationReason.ABORTED_BY_USER,
}
# What ends a run though none of its jobs failed.
_LIMITS = {
    JobTerminationReason.MAX_DURATION_EXCEEDED: RunTerminationReason.MAX_DURATION_EXCEEDED,
    JobTerminationReason.TERMINATED_DUE_TO_UTILIZATION_POLICY: (
        RunTerminationReason.TERMINATED_DUE_TO_UTILIZATION_POLICY
    ),
    JobTerminationReason.INACTIVITY_DURATION_EXCEEDED: RunTerminationReason.INACTIVITY_DURATION_EXCEEDED,
}
