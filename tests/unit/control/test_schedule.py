"""Runs with a schedule: they wait, start, and wait again."""

from __future__ import annotations

import pytest

from dstack.control.run.decide import decide, queue_ref
from dstack.control.run.submission import submitted
from dstack.control.snapshots import RunSnapshot
from dstack.model.job import Job, JobStatus
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.run import Run, RunStatus, RunTerminationReason
from support.builders import PROJECT, T0, changed, jobs_of, run

HOUR = 3600.0
AT = 1_000_800.0  # the first full hour after T0
HOURLY = {"cron": "0 * * * *"}


def scheduled(**fields) -> Run:
    return submitted(run(schedule=HOURLY, **fields), T0)[0]


def ending(r: Run, reason: RunTerminationReason) -> Run:
    return r.replace(status=RunStatus.TERMINATING, termination_reason=reason, next_triggered_at=None)


def over(r: Run) -> tuple[Job, ...]:
    return jobs_of(r, status=JobStatus.DONE, termination_reason=Reason.DONE_BY_RUNNER)


def test_a_scheduled_run_is_pending_without_jobs_until_its_time():
    row, jobs = submitted(run(schedule=HOURLY), T0)
    assert (row.status, row.next_triggered_at, jobs) == (RunStatus.PENDING, AT, ())
    d = decide(RunSnapshot(row, ()), T0)
    assert d.empty
    assert d.wake_at == AT


def test_a_scheduled_run_is_submitted_at_its_time():
    r = scheduled()
    d = decide(RunSnapshot(r, ()), AT)
    assert changed(d, r)["status"] is RunStatus.SUBMITTED
    assert changed(d, r)["next_triggered_at"] is None
    assert [(c.row.kind, c.row.submission_num) for c in d.creates] == [("job", 0)]  # type: ignore[attr-defined]
    assert queue_ref(PROJECT) in d.wakes


def test_instants_that_no_server_saw_start_it_once():
    r = scheduled()
    d = decide(RunSnapshot(r, ()), AT + 50 * HOUR)
    assert len(d.creates) == 1
    assert changed(d, r)["next_triggered_at"] is None


@pytest.mark.parametrize("reason", [RunTerminationReason.ALL_JOBS_DONE, RunTerminationReason.JOB_FAILED])
def test_a_scheduled_run_that_is_over_waits_for_its_next_time(reason: RunTerminationReason):
    r = ending(scheduled(), reason)
    d = decide(RunSnapshot(r, over(r)), AT + 2.5 * HOUR)
    assert changed(d, r) == {
        "status": RunStatus.PENDING,
        "next_triggered_at": AT + 3 * HOUR,
        "termination_reason": None,
        "last_processed_at": AT + 2.5 * HOUR,
    }
    assert d.wake_at == AT + 3 * HOUR


def test_the_next_start_is_a_further_submission_of_its_jobs():
    r = scheduled().replace(next_triggered_at=AT + HOUR)
    d = decide(RunSnapshot(r, over(r)), AT + HOUR)
    assert [c.row.submission_num for c in d.creates] == [1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("abort", [False, True])
def test_a_scheduled_run_that_is_stopped_while_it_waits_ends(abort: bool):
    r = scheduled().replace(stop_requested_at=AT, abort_requested=abort)
    d = decide(RunSnapshot(r, ()), AT)
    assert changed(d, r)["status"] is RunStatus.TERMINATING
    r = r.replace(**changed(d, r))
    assert changed(decide(RunSnapshot(r, ()), AT), r)["status"] is RunStatus.TERMINATED


def test_a_retry_of_a_scheduled_run_comes_before_its_next_time():
    r = scheduled().replace(next_triggered_at=None, next_attempt_at=AT + 15, retry_attempts=1, retry_since=AT)
    d = decide(RunSnapshot(r, over(r)), AT + 15)
    assert changed(d, r)["retry_attempts"] == 2
