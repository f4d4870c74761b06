"""What a run does next."""

from __future__ import annotations

import pytest

from dstack.control.policy.deadlines import terminating_deadline
from dstack.control.run.decide import decide, queue_ref
from dstack.control.snapshots import RunSnapshot
from dstack.model.job import Job, JobStatus
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.run import Run, RunStatus, RunTerminationReason
from support.builders import PROJECT, T0, changed, instance, jobs_of, messages, place_on, run

NO_CAPACITY = {"termination_reason": Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY, "status": JobStatus.FAILED}
EXITED = {"termination_reason": Reason.CONTAINER_EXITED_WITH_ERROR, "status": JobStatus.FAILED}


def decided(r: Run, *jobs: Job, at: float = T0):
    return decide(RunSnapshot(r, jobs), at)


@pytest.mark.parametrize(
    ("job_status", "run_status"),
    [
        (JobStatus.PROVISIONING, RunStatus.PROVISIONING),
        (JobStatus.PULLING, RunStatus.PROVISIONING),
        (JobStatus.RUNNING, RunStatus.RUNNING),
    ],
)
def test_a_run_follows_its_job(job_status: JobStatus, run_status: RunStatus):
    r = run()
    d = decided(r, *jobs_of(r, status=job_status))
    assert changed(d, r)["status"] is run_status
    assert messages(d) == [f"Run status changed SUBMITTED -> {run_status.upper()}"]


def test_a_run_is_running_as_soon_as_one_of_its_jobs_runs():
    r = run(nodes=2)
    first, second = jobs_of(r)
    assert changed(decided(r, first.replace(status=JobStatus.RUNNING), second), r)["status"] is RunStatus.RUNNING


def test_a_run_whose_job_lost_its_place_is_submitted_again_in_its_status():
    r = run(status=RunStatus.PROVISIONING)
    assert changed(decided(r, *jobs_of(r)), r)["status"] is RunStatus.SUBMITTED


def test_a_run_remembers_the_fleet_in_which_it_was_placed():
    r, i = run(), instance()
    d = decided(r, *jobs_of(r, status=JobStatus.PROVISIONING, place=place_on(i)))
    assert changed(d, r)["fleet_id"] == i.fleet_id


def test_a_run_with_nothing_new_changes_nothing_and_is_looked_at_again_later():
    r = run()
    d = decided(r, *jobs_of(r))
    assert d.empty
    assert d.wake_at is not None
    assert d.wake_at > T0


def test_a_run_all_of_whose_jobs_end_well_terminates_with_all_jobs_done():
    r = run(status=RunStatus.RUNNING)
    d = decided(r, *jobs_of(r, status=JobStatus.TERMINATING, termination_reason=Reason.DONE_BY_RUNNER))
    assert changed(d, r)["termination_reason"] is RunTerminationReason.ALL_JOBS_DONE
    assert messages(d) == ["Run status changed RUNNING -> TERMINATING. Termination reason: ALL_JOBS_DONE"]


def test_a_terminating_run_is_done_when_its_jobs_are_over():
    r = run(status=RunStatus.TERMINATING, termination_reason=RunTerminationReason.ALL_JOBS_DONE)
    d = decided(r, *jobs_of(r, status=JobStatus.DONE, termination_reason=Reason.DONE_BY_RUNNER))
    assert changed(d, r)["status"] is RunStatus.DONE
    assert changed(d, r)["finished_at"] == T0
    assert d.wake_at is None
    assert messages(d) == ["Run status changed TERMINATING -> DONE"]


def test_a_terminating_run_waits_for_its_jobs():
    r = run(status=RunStatus.TERMINATING, termination_reason=RunTerminationReason.ALL_JOBS_DONE)
    assert decided(r, *jobs_of(r, status=JobStatus.TERMINATING, stop_reason=Reason.TERMINATED_BY_SERVER)).empty


def test_one_failed_job_ends_the_run_and_the_jobs_beside_it():
    r = run(nodes=2, status=RunStatus.RUNNING)
    first, second = jobs_of(r, status=JobStatus.RUNNING)
    failed = first.replace(**EXITED, termination_message="Exited with status 1")
    d = decided(r, failed, second)
    assert changed(d, r)["termination_reason"] is RunTerminationReason.JOB_FAILED
    assert changed(d, r)["termination_message"] == "Node 0 (t1-0-0) failed: Exited with status 1"
    assert changed(d, second)["stop_reason"] is Reason.TERMINATED_BY_SERVER
    assert second.ref in d.wakes
    assert messages(d) == [
        "Run status changed RUNNING -> TERMINATING. Termination reason: JOB_FAILED "
        "(Node 0 (t1-0-0) failed: Exited with status 1)"
    ]


def test_a_run_that_ends_with_its_jobs_over_is_finished_in_the_next_turn():
    r = run()
    assert decided(r, *jobs_of(r, **NO_CAPACITY)).wake_at == T0


@pytest.mark.parametrize(
    ("intent", "reason", "job_reason"),
    [
        ({"stop_requested_at": T0}, RunTerminationReason.STOPPED_BY_USER, Reason.TERMINATED_BY_USER),
        (
            {"stop_requested_at": T0, "abort_requested": True},
            RunTerminationReason.ABORTED_BY_USER,
            Reason.ABORTED_BY_USER,
        ),
    ],
)
def test_an_intent_to_end_is_passed_on_to_the_jobs(intent: dict, reason: RunTerminationReason, job_reason: Reason):
    r = run(status=RunStatus.RUNNING, stop_actor_id="u", **intent)
    (job,) = jobs_of(r, status=JobStatus.RUNNING)
    d = decided(r, job)
    assert changed(d, r)["termination_reason"] is reason
    assert changed(d, job)["stop_reason"] is job_reason
    assert d.events[0].actor_id == "u"


def test_an_abort_after_a_stop_makes_the_jobs_abort():
    r = run(
        status=RunStatus.TERMINATING,
        termination_reason=RunTerminationReason.STOPPED_BY_USER,
        stop_requested_at=T0,
        abort_requested=True,
    )
    (job,) = jobs_of(r, status=JobStatus.TERMINATING, stop_reason=Reason.TERMINATED_BY_USER)
    d = decided(r, job)
    assert changed(d, r)["termination_reason"] is RunTerminationReason.ABORTED_BY_USER
    assert changed(d, job)["stop_reason"] is Reason.ABORTED_BY_USER


def test_a_pending_run_that_is_stopped_ends_at_once():
    r = run(status=RunStatus.PENDING, next_attempt_at=T0 + 50, stop_requested_at=T0)
    d = decided(r, *jobs_of(r, **EXITED))
    assert changed(d, r)["status"] is RunStatus.TERMINATING
    assert d.wake_at == T0


def test_a_run_that_reached_its_max_duration_ends_terminated():
    r = run(status=RunStatus.RUNNING)
    d = decided(r, *jobs_of(r, status=JobStatus.TERMINATING, termination_reason=Reason.MAX_DURATION_EXCEEDED))
    reason = changed(d, r)["termination_reason"]
    assert reason is RunTerminationReason.MAX_DURATION_EXCEEDED
    assert reason.final_status is RunStatus.TERMINATED


def test_a_failure_that_is_retried_makes_the_run_pending_with_the_first_delay():
    r = run(retry=True, status=RunStatus.RUNNING)
    d = decided(r, *jobs_of(r, **EXITED))
    assert changed(d, r)["status"] is RunStatus.PENDING
    assert changed(d, r)["next_attempt_at"] == T0 + 15
    assert changed(d, r)["retry_since"] == T0
    assert d.wake_at == T0 + 15


def test_the_fourth_failure_in_a_row_waits_two_minutes():
    r = run(retry=True, status=RunStatus.SUBMITTED, retry_attempts=3, attempt=3, retry_since=T0 - 100)
    assert changed(decided(r, *jobs_of(r, **NO_CAPACITY)), r)["next_attempt_at"] == T0 + 120


def test_a_retried_gang_ends_its_other_nodes_before_it_waits():
    r = run(retry=True, nodes=2, status=RunStatus.RUNNING)
    first, second = jobs_of(r, status=JobStatus.RUNNING)
    d = decided(r, first.replace(**EXITED), second)
    assert "status" not in changed(d, r)
    assert changed(d, second) == {
        "stop_reason": Reason.TERMINATED_BY_SERVER,
        "stop_message": "Run is to be resubmitted: Node 0 (t1-0-0) failed",
    }


def test_a_pending_run_is_submitted_again_when_its_time_comes():
    r = run(retry=True, status=RunStatus.PENDING, next_attempt_at=T0 + 15)
    old = jobs_of(r, **EXITED)
    assert decided(r, *old, at=T0 + 14).empty
    d = decided(r, *old, at=T0 + 15)
    (created,) = d.creates
    assert isinstance(created.row, Job)
    assert (created.row.submission_num, created.row.status) == (1, JobStatus.SUBMITTED)
    assert created.row.id != old[0].id
    assert changed(d, r)["status"] is RunStatus.SUBMITTED
    assert queue_ref(PROJECT) in d.wakes
    assert messages(d) == [
        "Job created on retry. Status: SUBMITTED",
        "Run status changed PENDING -> SUBMITTED",
    ]


def test_a_resubmission_decided_twice_names_the_same_job():
    r = run(retry=True, status=RunStatus.PENDING, next_attempt_at=T0)
    ids = {decided(r, *jobs_of(r, **EXITED)).creates[0].row.id for _ in range(2)}
    assert len(ids) == 1


def test_a_failure_that_the_rule_does_not_cover_ends_the_run():
    r = run(retry={"on_events": ["no-capacity"]}, status=RunStatus.RUNNING)
    d = decided(r, *jobs_of(r, **EXITED))
    assert changed(d, r)["termination_reason"] is RunTerminationReason.JOB_FAILED


def test_a_series_of_failures_longer_than_the_duration_ends_with_retry_limit_exceeded():
    r = run(retry={"duration": "10m"}, status=RunStatus.SUBMITTED, retry_since=T0 - 601)
    d = decided(r, *jobs_of(r, **NO_CAPACITY))
    assert changed(d, r)["termination_reason"] is RunTerminationReason.RETRY_LIMIT_EXCEEDED


def test_waiting_for_capacity_counts_from_the_submission():
    r = run(retry={"duration": "10m"}, submitted_at=T0 - 601)
    d = decided(r, *jobs_of(r, **NO_CAPACITY))
    assert changed(d, r)["termination_reason"] is RunTerminationReason.RETRY_LIMIT_EXCEEDED


def long_run(r: Run, *, ran_s: float, cleaned_up_s: float) -> tuple[Job, ...]:
    ended = T0 - cleaned_up_s
    return jobs_of(r, **EXITED, running_since=ended - ran_s, terminating_deadline=terminating_deadline(300, ended))


def test_a_failure_after_a_healthy_time_begins_a_new_series():
    r = run(retry={"duration": "10m"}, status=RunStatus.RUNNING, retry_since=T0 - 5000, retry_attempts=4)
    d = decided(r, *long_run(r, ran_s=700, cleaned_up_s=0))
    assert (changed(d, r)["retry_since"], changed(d, r)["retry_attempts"]) == (T0, 0)
    assert changed(d, r)["next_attempt_at"] == T0 + 15


def test_a_long_clean_up_does_not_make_a_short_life_healthy():
    r = run(retry={"duration": "10m"}, status=RunStatus.RUNNING, retry_since=T0 - 5000)
    d = decided(r, *long_run(r, ran_s=100, cleaned_up_s=900))
    assert changed(d, r)["termination_reason"] is RunTerminationReason.RETRY_LIMIT_EXCEEDED
