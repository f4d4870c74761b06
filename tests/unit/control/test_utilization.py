"""Runs whose GPUs stand idle end when their policy says so."""

from __future__ import annotations

import pytest

from dstack.control.job.decide import decide
from dstack.control.policy.utilization import idle_s
from dstack.control.run.decide import decide as decide_run
from dstack.control.snapshots import JobSnapshot, RunSnapshot
from dstack.model.job import Job, JobStatus
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.observation import GpusMeasured, Observation, TaskReported
from dstack.model.run import RunStatus, RunTerminationReason
from support.builders import T0, changed, inbox, instance, job, jobs_of, run

POLICY = {"min_gpu_utilization": 10, "time_window": "10m"}


def samples(*percents: tuple[int, ...], every_s: float = 60.0) -> list[tuple[float, dict[str, int]]]:
    return [(n * every_s, {f"g{i}": p for i, p in enumerate(used)}) for n, used in enumerate(percents)]


@pytest.mark.parametrize(
    ("used", "idle"),
    [
        ((), 0),
        (((5,), (5,), (5,)), 120),
        (((50,), (5,), (5,)), 60),
        (((5,), (5,), (50,)), 0),
        (((5, 90), (5, 90), (5, 90)), 120),
        (((50, 5), (5, 50), (5, 50)), 60),
        (((), ()), 0),
    ],
)
def test_the_gpu_that_is_idle_for_longest_counts(used: tuple[tuple[int, ...], ...], idle: float):
    assert idle_s(samples(*used), 10) == idle


def test_where_samples_are_missing_the_count_begins_anew():
    assert idle_s([(0.0, {"g": 0}), (1000.0, {"g": 0}), (1060.0, {"g": 0})], 10) == 60


def decided(j: Job, *seen: Observation, at: float):
    return decide(JobSnapshot(j, instance(busy_blocks=1), (), inbox(*seen)), at)


def running(**fields) -> Job:
    j = job(utilization_policy=POLICY, on=instance(busy_blocks=1))
    return j.replace(status=JobStatus.RUNNING, running_since=T0, task_started=True, **fields)


def test_the_first_measurement_is_made_when_the_window_can_be_over():
    j = job(utilization_policy=POLICY, on=instance(busy_blocks=1)).replace(task_started=True)
    d = decided(j, TaskReported(state="running", started_at=T0), at=T0)
    assert changed(d, j)["utilization_check_at"] == T0 + 540
    assert d.wake_at == T0 + 540


def test_when_it_is_time_the_use_is_asked_for():
    d = decided(running(utilization_check_at=T0 + 540), at=T0 + 540)
    assert [(p.verb, p.payload["least_percent"]) for p in d.probes] == [("measure_gpus", 10)]


def test_a_gpu_that_was_idle_for_the_whole_window_ends_the_job_with_the_reason():
    j = running(utilization_check_at=T0 + 600)
    fields = changed(decided(j, GpusMeasured(idle_s=590), at=T0 + 600), j)
    assert fields["termination_reason"] is Reason.TERMINATED_DUE_TO_UTILIZATION_POLICY
    assert fields["termination_message"] == "A GPU was used less than 10% for 10m"


def test_one_that_was_used_meanwhile_is_measured_again_when_its_window_can_be_over():
    j = running(utilization_check_at=T0 + 600)
    assert changed(decided(j, GpusMeasured(idle_s=240), at=T0 + 600), j) == {"utilization_check_at": T0 + 900}


def test_the_run_ends_terminated_and_not_failed():
    r = run(utilization_policy=POLICY, status=RunStatus.RUNNING)
    reason = Reason.TERMINATED_DUE_TO_UTILIZATION_POLICY
    d = decide_run(RunSnapshot(r, jobs_of(r, status=JobStatus.TERMINATING, termination_reason=reason)), T0)
    ended = RunTerminationReason.TERMINATED_DUE_TO_UTILIZATION_POLICY
    assert changed(d, r)["termination_reason"] is ended
    assert ended.final_status is RunStatus.TERMINATED
