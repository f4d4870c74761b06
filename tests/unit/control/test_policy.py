"""The numbers by which the system waits and gives up."""

from __future__ import annotations

import pytest

from dstack.control.policy import backoff, idle, retry
from dstack.control.policy.deadlines import settle_delay, terminating_deadline, terminating_since, unreachable_deadline
from dstack.model.job import JobTerminationReason as Reason
from support.builders import T0, job


def test_the_delays_of_retries_grow_to_ten_minutes():
    assert [retry.delay(n) for n in range(8)] == [15, 30, 60, 120, 300, 600, 600, 600]


@pytest.mark.parametrize(
    ("reason", "events", "verdict"),
    [
        (Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY, ["no-capacity"], retry.Verdict.RETRY),
        (Reason.INTERRUPTED_BY_NO_CAPACITY, ["interruption"], retry.Verdict.RETRY),
        (Reason.INSTANCE_UNREACHABLE, ["error"], retry.Verdict.RETRY),
        (Reason.CONTAINER_EXITED_WITH_ERROR, ["interruption"], retry.Verdict.NOT_COVERED),
        (Reason.TERMINATED_BY_USER, ["error"], retry.Verdict.NOT_COVERED),
        (Reason.MAX_DURATION_EXCEEDED, ["error"], retry.Verdict.NOT_COVERED),
    ],
)
def test_each_reason_is_retried_by_its_event_only(reason: Reason, events: list[str], verdict: retry.Verdict):
    failed = job(retry={"on_events": events}, termination_reason=reason)
    assert retry.verdict([failed], T0, T0) is verdict


def test_one_job_that_is_not_retried_decides_for_all():
    error = {"termination_reason": Reason.EXECUTOR_ERROR}
    assert retry.verdict([job(retry=True, **error), job(**error)], T0, T0) is retry.Verdict.NOT_COVERED


def test_the_duration_of_a_retry_is_counted_to_the_second():
    failed = job(retry={"duration": "10m"}, termination_reason=Reason.EXECUTOR_ERROR)
    assert retry.verdict([failed], T0, T0 + 600) is retry.Verdict.RETRY
    assert retry.verdict([failed], T0, T0 + 601) is retry.Verdict.EXPIRED


@pytest.mark.parametrize(("first", "second", "shorter"), [(1, 2, 1), (None, 2, 2), (1, None, 1), (None, None, None)])
def test_never_is_longer_than_any_duration(first: float | None, second: float | None, shorter: float | None):
    assert idle.shorter(first, second) == shorter


def test_idle_defaults_are_five_minutes_for_runs_and_never_where_it_is_off():
    assert (idle.of_run(None), idle.of_run(-1), idle.of_run(0)) == (300, None, 0)


def test_pauses_of_a_failing_fleet_grow_and_stay():
    assert [backoff.fleet_create_delay(n) for n in (1, 2, 3, 4, 5, 99)] == [60, 120, 300, 600, 1800, 1800]


def test_an_act_that_is_called_back_is_looked_at_soon_and_then_ever_less_often():
    assert [settle_delay(T0, T0 + age) for age in (0, 2, 40)] == [0.5, 0.5, 10]


def test_only_machines_of_clouds_are_given_up():
    assert unreachable_deadline("aws", T0) == T0 + 1200
    assert unreachable_deadline("local", T0) is None


def test_when_a_job_began_to_end_follows_from_its_deadline():
    assert terminating_since(terminating_deadline(300, T0), 300) == T0
