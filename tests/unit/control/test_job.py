"""What a job does next, until it begins to end."""

from __future__ import annotations

import pytest

from dstack.agentapi import wire
from dstack.control.job.decide import decide
from dstack.control.kernel import Decision, Pending
from dstack.control.run.decide import queue_ref
from dstack.control.snapshots import JobSnapshot
from dstack.model.instance import Instance, InstanceStatus, InstanceTerminationReason
from dstack.model.job import Job, JobStatus
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.observation import Observation, TaskAccepted, TaskLost, TaskRefused, TaskReported
from support.builders import PROJECT, T0, changed, inbox, instance, job, messages, offer, pending, verbs

BUSY = {"status": InstanceStatus.BUSY, "busy_blocks": 1}


def decided(
    j: Job, i: Instance | None = None, *seen: Observation, at: float = T0, acts: tuple[Pending, ...] = ()
) -> Decision:
    return decide(JobSnapshot(j, i, acts, inbox(*seen)), at)


def ended(d: Decision, j: Job) -> tuple[Reason, str | None]:
    fields = changed(d, j)
    assert fields["status"] is JobStatus.TERMINATING
    return fields["termination_reason"], fields.get("termination_message")


def test_a_submitted_job_waits_for_the_queue():
    assert decided(job()).empty


def test_a_submitted_job_that_is_to_stop_ends_without_having_been_anywhere():
    j = job(stop_reason=Reason.TERMINATED_BY_USER)
    d = decided(j)
    assert ended(d, j) == (Reason.TERMINATED_BY_USER, None)
    assert d.acts == ()
    assert d.wake_at == T0


def test_a_placed_job_waits_until_its_instance_is_linked():
    i = instance(status=InstanceStatus.PROVISIONING)
    d = decided(job(on=i, provisioning_deadline=T0 + 600), i)
    assert d.acts == ()
    assert d.wake_at == T0 + 600


def test_a_job_on_a_linked_instance_is_started():
    i = instance(**BUSY)
    j = job(on=i, provisioning_deadline=T0 + 5)
    d = decided(j, i)
    assert verbs(d) == ["start_task"]
    assert changed(d, j)["provisioning_deadline"] == T0 + 600
    assert changed(d, j)["place"].hostname == "10.0.0.0"


def test_a_start_that_is_under_way_is_not_recorded_again():
    i = instance(**BUSY)
    assert decided(job(on=i), i, acts=(pending("start_task"),)).acts == ()


def test_an_accepted_task_is_not_started_again():
    i = instance(**BUSY)
    j = job(on=i)
    d = decided(j, i, TaskAccepted())
    assert changed(d, j)["task_started"] is True
    assert d.acts == ()
    assert d.consumes == (1,)


def test_pulling_is_reported():
    i = instance(**BUSY)
    j = job(on=i, task_started=True)
    d = decided(j, i, TaskReported(state=wire.PULLING))
    assert changed(d, j)["status"] is JobStatus.PULLING
    assert messages(d) == ["Job status changed PROVISIONING -> PULLING"]


def test_running_takes_over_what_the_agent_says():
    i = instance(**BUSY)
    j = job(on=i, task_started=True, max_duration="1h", submitted_at=T0 - 9)
    report = TaskReported(state=wire.RUNNING, started_at=T0 - 2, working_dir="/w", user="u", ports={"80": 5000})
    fields = changed(decided(j, i, report), j)
    assert fields["status"] is JobStatus.RUNNING
    assert (fields["running_since"], fields["max_duration_deadline"]) == (T0 - 2, T0 - 2 + 3600)
    assert (fields["working_dir"], fields["username"], fields["port_mapping"]) == ("/w", "u", {"80": 5000})


def test_an_agent_whose_clock_is_behind_does_not_use_up_the_jobs_time():
    i = instance(**BUSY)
    j = job(on=i, task_started=True, max_duration="1h")
    fields = changed(decided(j, i, TaskReported(state=wire.RUNNING, started_at=T0 - 86400)), j)
    assert (fields["status"], fields["max_duration_deadline"]) == (JobStatus.RUNNING, j.submitted_at + 3600)


def test_a_job_that_was_not_started_in_time_says_what_its_last_try_met():
    i = instance(**BUSY)
    j = job(on=i, provisioning_deadline=T0)
    start = Pending("start_task", "token", 5, T0 - 600, "the agent cannot take the task now: no space left")
    d = decide(JobSnapshot(j, i, (start,)), T0)
    assert changed(d, j)["termination_message"].endswith(
        "within 10m: the agent cannot take the task now: no space left"
    )


def test_an_agent_whose_clock_is_ahead_cannot_start_a_job_in_the_future():
    i = instance(**BUSY)
    j = job(on=i, task_started=True)
    assert changed(decided(j, i, TaskReported(state=wire.RUNNING, started_at=T0 + 99)), j)["running_since"] == T0


def test_a_late_report_does_not_turn_a_job_back():
    i = instance(**BUSY)
    assert decided(job(on=i, status=JobStatus.RUNNING, task_started=True), i, TaskReported(state=wire.PULLING)).empty


def test_the_furthest_of_several_reports_counts():
    i = instance(**BUSY)
    j = job(on=i, task_started=True)
    d = decided(j, i, TaskReported(state=wire.EXITED, exit_code=0), TaskReported(state=wire.RUNNING))
    assert ended(d, j)[0] is Reason.DONE_BY_RUNNER


@pytest.mark.parametrize(
    ("report", "reason", "message", "status"),
    [
        (TaskReported(state=wire.EXITED, exit_code=0), Reason.DONE_BY_RUNNER, None, JobStatus.DONE),
        (
            TaskReported(state=wire.EXITED, exit_code=3),
            Reason.CONTAINER_EXITED_WITH_ERROR,
            "Exited with status 3",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.EXITED, exit_code=137, reason=wire.OOM),
            Reason.CONTAINER_EXITED_WITH_ERROR,
            "Out of memory: the job used more than its memory limit of 16GB (exit status 137)",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason=wire.IMAGE_PULL, message="no such image"),
            Reason.CREATING_CONTAINER_ERROR,
            "The image could not be pulled: no such image",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason=wire.CREATE_FAILED),
            Reason.CREATING_CONTAINER_ERROR,
            "The container could not be created",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason=wire.START_FAILED),
            Reason.CREATING_CONTAINER_ERROR,
            "The command could not be started",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason=wire.LOG_QUOTA),
            Reason.LOG_QUOTA_EXCEEDED,
            "Job log output exceeded the hourly quota",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason=wire.HOST_REBOOTED),
            Reason.EXECUTOR_ERROR,
            "The host was rebooted",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.EXITED, exit_code=137, reason=wire.ENGINE_RESTARTED),
            Reason.EXECUTOR_ERROR,
            "The container engine was restarted",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason=wire.CONTAINER_REMOVED),
            Reason.EXECUTOR_ERROR,
            "The container was removed from outside",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason=wire.DISK_FULL, message="/var"),
            Reason.EXECUTOR_ERROR,
            "The disk of the host is full: /var",
            JobStatus.FAILED,
        ),
        (
            TaskReported(state=wire.FAILED, reason="novel"),
            Reason.EXECUTOR_ERROR,
            "The agent could not run the job (novel)",
            JobStatus.FAILED,
        ),
    ],
    ids=lambda v: v.reason or v.state if isinstance(v, TaskReported) else "",
)
def test_each_end_that_the_agent_reports_has_its_reason(
    report: TaskReported, reason: Reason, message: str | None, status: JobStatus
):
    i = instance(**BUSY)
    j = job(on=i, status=JobStatus.RUNNING, task_started=True, resources={"memory": "1GB..16GB"})
    d = decided(j, i, report)
    assert ended(d, j) == (reason, message)
    assert reason.final_status is status
    assert changed(d, j).get("exit_status") == report.exit_code
    assert verbs(d) == ["remove_task"]


def test_the_event_of_an_end_names_its_reason_and_message():
    i = instance(**BUSY)
    j = job(on=i, status=JobStatus.RUNNING, task_started=True)
    d = decided(j, i, TaskReported(state=wire.EXITED, exit_code=3))
    text = "Termination reason: CONTAINER_EXITED_WITH_ERROR (Exited with status 3)"
    assert messages(d) == [f"Job status changed RUNNING -> TERMINATING. {text}"]
    assert d.events[0].targets[0] == ("job", j.id, "t1-0-0")


def test_a_task_that_can_never_start_ends_the_job_with_what_was_said():
    i = instance(**BUSY)
    j = job(on=i)
    d = decided(j, i, TaskRefused(message="Secrets interpolation error: no secret X"))
    assert ended(d, j) == (Reason.CREATING_CONTAINER_ERROR, "Secrets interpolation error: no secret X")
    assert d.acts == ()


def test_a_task_that_its_host_lost_ends_the_job():
    i = instance(**BUSY)
    j = job(on=i, status=JobStatus.RUNNING, task_started=True)
    assert ended(decided(j, i, TaskLost()), j)[0] is Reason.EXECUTOR_ERROR


def test_a_job_that_ended_by_itself_keeps_its_own_end_when_a_stop_comes_at_the_same_time():
    i = instance(**BUSY)
    j = job(on=i, status=JobStatus.RUNNING, task_started=True, stop_reason=Reason.TERMINATED_BY_USER)
    assert ended(decided(j, i, TaskReported(state=wire.EXITED, exit_code=0)), j)[0] is Reason.DONE_BY_RUNNER


def test_a_running_job_at_its_max_duration_is_ended_gracefully():
    i = instance(**BUSY)
    j = job(on=i, status=JobStatus.RUNNING, task_started=True, max_duration="1h", max_duration_deadline=T0)
    d = decided(j, i)
    assert ended(d, j) == (Reason.MAX_DURATION_EXCEEDED, "The run reached its max_duration of 1h")
    assert d.acts[0].verb == "stop_task"
    assert d.acts[0].payload["grace_s"] == 300


def test_a_running_job_is_due_again_at_its_max_duration():
    i = instance(**BUSY)
    j = job(on=i, status=JobStatus.RUNNING, task_started=True, max_duration_deadline=T0 + 60)
    assert decided(j, i).wake_at == T0 + 60


def test_a_job_whose_instance_is_not_ready_in_time_ends():
    i = instance(status=InstanceStatus.PROVISIONING)
    j = job(on=i, provisioning_deadline=T0)
    assert ended(decided(j, i), j)[0] is Reason.WAITING_INSTANCE_LIMIT_EXCEEDED


def test_a_job_that_its_agent_does_not_start_in_time_ends_and_calls_the_start_back():
    i = instance(**BUSY)
    j = job(on=i, provisioning_deadline=T0)
    d = decided(j, i, acts=(pending("start_task", 7),))
    assert ended(d, j)[0] is Reason.WAITING_RUNNER_LIMIT_EXCEEDED
    assert [s.verb for s in d.settles] == ["start_task"]


def test_an_unreachable_instance_does_not_end_its_running_job():
    i = instance(**BUSY, linked=False, unreachable_since=T0 - 500)
    assert decided(job(on=i, status=JobStatus.RUNNING, task_started=True), i).empty


def leaving(reason: InstanceTerminationReason, **fields) -> Instance:
    return instance(status=InstanceStatus.TERMINATING, termination_reason=reason, busy_blocks=1, **fields)


def test_a_job_whose_instance_could_not_be_had_goes_back_to_the_queue():
    i = leaving(InstanceTerminationReason.NO_OFFERS, termination_message="sold out")
    j = job(on=i)
    d = decided(j, i)
    fields = changed(d, j)
    assert fields["status"] is JobStatus.SUBMITTED
    assert fields["tried_offers"] == (i.offer.key,)
    assert (fields["instance_id"], fields["place"]) == (None, None)
    assert fields["placement"].drops[0].reason == f"{i.offer.key}: sold out"
    assert changed(d, i)["busy_blocks"] == 0
    assert queue_ref(PROJECT) in d.wakes


def test_an_order_that_the_backend_refused_leads_to_the_next_offer_too():
    i = leaving(InstanceTerminationReason.ERROR, termination_message="quota exceeded")
    j = job(on=i)
    assert changed(decided(j, i), j)["status"] is JobStatus.SUBMITTED


def test_a_job_tries_a_bounded_number_of_offers():
    i = leaving(InstanceTerminationReason.NO_OFFERS, termination_message="sold out")
    j = job(on=i, tried_offers=tuple(f"o{n}" for n in range(24)))
    reason, message = ended(decided(j, i), j)
    assert reason is Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY
    assert message == f"Tried 25 offers without success. The last, {i.offer.key}: sold out"


@pytest.mark.parametrize(
    ("instance_", "reason"),
    [
        (leaving(InstanceTerminationReason.PROVISIONING_TIMEOUT), Reason.WAITING_INSTANCE_LIMIT_EXCEEDED),
        (
            leaving(InstanceTerminationReason.ERROR, host={"hostname": "h"}, offer=offer(spot=True)),
            Reason.INTERRUPTED_BY_NO_CAPACITY,
        ),
        (
            leaving(InstanceTerminationReason.ERROR, host={"hostname": "h"}, preempted=True),
            Reason.INTERRUPTED_BY_NO_CAPACITY,
        ),
        (leaving(InstanceTerminationReason.ERROR, host={"hostname": "h"}), Reason.INSTANCE_UNREACHABLE),
        (leaving(InstanceTerminationReason.UNREACHABLE, host={"hostname": "h"}), Reason.INSTANCE_UNREACHABLE),
        (leaving(InstanceTerminationReason.TERMINATED_BY_USER, host={"hostname": "h"}), Reason.INSTANCE_UNREACHABLE),
        (None, Reason.INSTANCE_UNREACHABLE),
    ],
    ids=["late", "spot", "preempted", "failed", "unreachable", "by-user", "none"],
)
def test_a_job_ends_with_its_instance_for_a_clear_reason(instance_: Instance | None, reason: Reason):
    j = job(on=instance_ or instance(), status=JobStatus.RUNNING, task_started=True)
    assert ended(decided(j, instance_), j)[0] is reason


@pytest.mark.parametrize(("minutes", "limit"), [(10, "10m"), (20, "20m")])
def test_a_job_whose_instance_was_not_ready_says_how_long_it_waited(minutes: int, limit: str):
    silent = instance(status=InstanceStatus.PROVISIONING)
    j = job(on=silent, provisioning_deadline=T0 + minutes * 60, last_processed_at=T0)
    d = decided(j, silent, at=T0 + minutes * 60)
    assert ended(d, j) == (Reason.WAITING_INSTANCE_LIMIT_EXCEEDED, f"The instance was not ready within {limit}")
