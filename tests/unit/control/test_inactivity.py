"""Dev environments end when nobody was in for as long as they say, and say so before."""

from __future__ import annotations

from dstack.control.job.decide import decide
from dstack.control.run.decide import decide as decide_run
from dstack.control.run.submission import job_spec
from dstack.control.snapshots import JobSnapshot, RunSnapshot
from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.instance import Instance
from dstack.model.job import Job, JobSession, JobStatus
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.observation import Observation, TaskReported
from dstack.model.run import RunSpec, RunStatus, RunTerminationReason
from support.builders import T0, changed, inbox, instance, job, jobs_of, messages, run

LIMIT_S = 1800.0


def developing(since: float | None = T0) -> Job:
    """A job that runs and that nobody has been in since `since`."""
    j = job(on=instance(busy_blocks=1))
    spec = j.spec.model_copy(update={"inactivity_duration_s": LIMIT_S})
    session = JobSession(user="root", host_key="k", inactive_since=since, told_since=since)
    return j.replace(status=JobStatus.RUNNING, running_since=T0, task_started=True, spec=spec, session=session)


def decided(j: Job, *seen: Observation, at: float, on: Instance | None = None):
    return decide(JobSnapshot(j, on or instance(busy_blocks=1), (), inbox(*seen)), at)


def reported(inactive_since: float | None) -> TaskReported:
    return TaskReported(state="running", session_user="root", session_host_key="k", inactive_since=inactive_since)


def test_a_run_that_nobody_was_in_for_too_long_ends():
    j = developing()
    fields = changed(decided(j, at=T0 + LIMIT_S), j)
    assert (fields["status"], fields["termination_reason"]) == (
        JobStatus.TERMINATING,
        Reason.INACTIVITY_DURATION_EXCEEDED,
    )
    assert fields["termination_message"] == "Nobody was connected to the run for 30m"


def test_minutes_before_it_says_so_once():
    j = developing()
    d = decided(j, at=T0 + LIMIT_S - 300)
    words = "Nobody is connected to the run. It stops in 5m unless somebody is then"
    assert messages(d) == [words]
    assert [(act.verb, act.payload["message"]) for act in d.acts] == [("warn_task", words)]
    warned = j.replace(**changed(d, j))
    assert messages(decided(warned, at=T0 + LIMIT_S - 200)) == []


def test_it_is_looked_at_when_the_warning_is_due():
    assert decided(developing(), at=T0 + LIMIT_S - 330).wake_at == T0 + LIMIT_S - 300


def test_while_somebody_is_in_it_goes_on():
    assert changed(decided(developing(None), at=T0 + 10 * LIMIT_S), developing(None)).get("status") is None


def test_who_enters_stops_the_count():
    j = developing()
    d = decided(j, reported(None), at=T0 + LIMIT_S - 1)
    assert changed(d, j)["session"].inactive_since is None


def test_the_count_goes_by_the_clock_of_the_server():
    j = developing(None)
    d = decided(j, reported(T0 - 5 * LIMIT_S), at=T0 + 60)
    assert changed(d, j)["session"].inactive_since == T0 + 60
    assert "status" not in changed(d, j)


def test_of_a_host_that_does_not_answer_nobody_knows_who_is_in():
    silent = instance(busy_blocks=1, unreachable_since=T0)
    assert "status" not in changed(decided(developing(), at=T0 + LIMIT_S, on=silent), developing())


def test_while_its_host_does_not_answer_the_end_that_has_passed_is_not_looked_at_over_and_over():
    silent = instance(busy_blocks=1, unreachable_since=T0)
    now = T0 + LIMIT_S + 1
    assert (decided(developing(), at=now, on=silent).wake_at or 0.0) > now + 60


def test_a_run_without_the_limit_goes_on():
    j = developing()
    endless = j.replace(spec=j.spec.model_copy(update={"inactivity_duration_s": None}))
    assert "status" not in changed(decided(endless, at=T0 + 100 * LIMIT_S), endless)


def test_the_run_of_a_deserted_job_is_terminated_and_has_not_failed():
    r = run(status=RunStatus.RUNNING)
    ended = [
        j.replace(status=JobStatus.TERMINATED, termination_reason=Reason.INACTIVITY_DURATION_EXCEEDED)
        for j in jobs_of(r)
    ]
    d = decide_run(RunSnapshot(r, tuple(ended)), T0)
    assert changed(d, r)["termination_reason"] is RunTerminationReason.INACTIVITY_DURATION_EXCEEDED
    assert RunTerminationReason.INACTIVITY_DURATION_EXCEEDED.final_status is RunStatus.TERMINATED


def test_a_dev_environment_prepares_itself_tells_how_to_get_in_and_stays():
    c = DevEnvironmentConfiguration.model_validate(
        {"type": "dev-environment", "ide": "vscode", "init": ["make prepare"], "inactivity_duration": "30m"}
    )
    spec = job_spec(RunSpec(configuration=c), "dev")
    first, told, last = spec.commands
    assert first == "make prepare"
    assert "vscode://vscode-remote/ssh-remote+dev$PWD" in told
    assert last == "exec tail -f /dev/null"
    assert spec.inactivity_duration_s == LIMIT_S
