"""Runs on the wire: status words, cost, the newest submission, what they wait for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dstack.model.job import Job, JobStatus, JobTerminationReason
from dstack.model.run import Run, RunStatus, RunTerminationReason
from dstack.server.services.wire import jobs as wire_jobs
from dstack.server.services.wire import specs
from dstack.server.services.wire.jobs import Around
from dstack.server.services.wire.values import instant, stamp

NOBODY = "(deleted user)"
_ERRORS = {
    RunTerminationReason.RETRY_LIMIT_EXCEEDED: "retry limit exceeded",
    RunTerminationReason.SERVER_ERROR: "server error",
    RunTerminationReason.MAX_DURATION_EXCEEDED: "max duration exceeded",
    RunTerminationReason.TERMINATED_DUE_TO_UTILIZATION_POLICY: "utilization policy",
    RunTerminationReason.INACTIVITY_DURATION_EXCEEDED: "inactivity duration exceeded",
}


@dataclass(frozen=True)
class RunView:
    """A run with all that its rendering needs. `jobs`: submissions, in the order (replica, job, submission)."""

    run: Run
    jobs: tuple[Job, ...]
    project_name: str
    username: str | None
    fleet_name: str | None
    around: Around
    now: float
    waiting_for: str | None = None


def run(view: RunView, *, include_jobs: bool = True, submissions_limit: int | None = None) -> dict[str, Any]:
    """`submissions_limit` is of each job, the newest of them."""
    row, newest = view.run, newest_submission(view.jobs)
    latest = (newest, wire_jobs.submission(newest, view.around)) if newest else None
    return {
        "id": row.id,
        "project_name": view.project_name,
        "user": view.username or NOBODY,
        "fleet": {"id": row.fleet_id, "name": view.fleet_name} if row.fleet_id and view.fleet_name else None,
        "submitted_at": stamp(row.submitted_at),
        "last_processed_at": stamp(row.last_processed_at),
        "status": str(row.status),
        "status_message": status_message(row, view.jobs),
        "termination_reason": row.termination_reason and str(row.termination_reason),
        "run_spec": specs.run_spec(row.spec),
        "jobs": _jobs(view, submissions_limit, latest) if include_jobs else [],
        "latest_job_submission": latest and latest[1],
        "cost": round(sum(wire_jobs.cost(job, view.now) for job in view.jobs), 6),
        "service": None,
        "deployment_num": 0,
        "error": _ERRORS.get(row.termination_reason) if row.termination_reason else None,
        "deleted": row.deleted,
        "next_triggered_at": instant(row.next_triggered_at),
        "x_exit_status": exit_status(row, view.jobs),
        "x_waiting_for": view.waiting_for,
        "x_finished_at": instant(row.finished_at),
        "x_stop_requested": row.stop_requested_at is not None,
    }


def _jobs(view: RunView, limit: int | None, latest: tuple[Job, dict[str, Any]] | None) -> list[dict[str, Any]]:
    grouped: dict[tuple[int, int], list[Job]] = defaultdict(list)
    for job in view.jobs:
        grouped[job.replica_num, job.job_num].append(job)
    return [wire_jobs.job(submissions, view.around, limit, latest) for submissions in grouped.values()]


def newest_submission(jobs: Sequence[Job]) -> Job | None:
    return max(
        jobs, key=lambda job: (job.submission_num, job.submitted_at, -job.replica_num, -job.job_num), default=None
    )


def current(jobs: Sequence[Job]) -> list[Job]:
    """The newest submission of each job."""
    newest: dict[tuple[int, int], Job] = {}
    for job in jobs:
        key = (job.replica_num, job.job_num)
        if key not in newest or newest[key].submission_num < job.submission_num:
            newest[key] = job
    return list(newest.values())


def status_message(row: Run, jobs: Sequence[Job]) -> str:
    """The status as people read it."""
    now = current(jobs)
    match row.status:
        case RunStatus.DONE:
            return "exited (0)"
        case RunStatus.FAILED:
            failed = next((job for job in now if job.status is JobStatus.FAILED), None)
            return wire_jobs.status_message(failed) if failed else str(row.status)
        case RunStatus.TERMINATED:
            return _TERMINATED.get(row.termination_reason, "terminated") if row.termination_reason else "terminated"
        case RunStatus.PENDING if row.next_triggered_at is None and any(_no_capacity(job) for job in now):
            return "retrying"
        case _ if now and all(job.status is JobStatus.PULLING for job in now):
            return "pulling"
        case _:
            return str(row.status)


_TERMINATED = {
    RunTerminationReason.STOPPED_BY_USER: "stopped",
    RunTerminationReason.ABORTED_BY_USER: "aborted",
}


def exit_status(row: Run, jobs: Sequence[Job]) -> int | None:
    """The job's own exit code: the first that is not 0 of the last attempt, once the run is over.

    Those that ended by themselves come first: a node's failure has the others interrupted, which gives them codes too.
    """
    if not row.terminal:
        return None
    latest = current(jobs)
    own = [job for job in latest if job.termination_reason is JobTerminationReason.CONTAINER_EXITED_WITH_ERROR]
    codes = [job.exit_status for job in (*own, *latest) if job.exit_status is not None]
    return next((code for code in codes if code), 0 if codes else None)


def _no_capacity(job: Job) -> bool:
    return job.termination_reason is JobTerminationReason.FAILED_TO_START_DUE_TO_NO_CAPACITY
