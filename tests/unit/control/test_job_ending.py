"""How a job ends: stop, log to its end, removal, blocks back."""

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
from dstack.model.observation import Observation, TaskAccepted, TaskLost, TaskRemoved, TaskReported
from dstack.model.row import Ref
from support.builders import PROJECT, T0, changed, inbox, instance, job, messages, offer, pending, verbs

HOST = instance(status=InstanceStatus.BUSY, busy_blocks=1)


def decided(
    j: Job, i: Instance | None = HOST, *seen: Observation, at: float = T0, acts: tuple[Pending, ...] = ()
) -> Decision:
    return decide(JobSnapshot(j, i, acts, inbox(*seen)), at)


def ending(reason: Reason = Reason.TERMINATED_BY_USER, **fields) -> Job:
    values = {
        "status": JobStatus.TERMINATING,
        "task_started": True,
        "termination_reason": reason,
        "terminating_deadline": T0 + 900,
    }
    return job(on=HOST, **{**values, **fields})


@pytest.mark.parametrize(
    ("reason", "grace_s"),
    [
        (Reason.TERMINATED_BY_USER, 300),
        (Reason.TERMINATED_BY_SERVER, 300),
        (Reason.MAX_DURATION_EXCEEDED, 300),
        (Reason.ABORTED_BY_USER, 0),
        (Reason.EXECUTOR_ERROR, 0),
    ],
)
def test_a_stop_leaves_the_process_time_unless_it_is_an_abort(reason: Reason, grace_s: float):
    j = job(on=HOST, status=JobStatus.RUNNING, task_started=True, stop_reason=reason)
    d = decided(j)
    assert d.acts[0].verb == "stop_task"
    assert d.acts[0].payload == {"grace_s": grace_s, "reason": str(reason)}
    assert changed(d, j)["terminating_deadline"] == T0 + 300 + 600


def test_a_stop_is_sent_once():
    assert decided(ending(stop_grace_s=300.0)).acts == ()


def test_an_abort_sharpens_a_stop_that_was_sent():
    d = decided(ending(stop_grace_s=300.0, stop_reason=Reason.ABORTED_BY_USER))
    assert d.acts[0].payload["grace_s"] == 0


def test_an_abort_replaces_a_stop_that_has_not_arrived_yet():
    j = ending(stop_grace_s=300.0, stop_reason=Reason.ABORTED_BY_USER)
    d = decided(j, HOST, acts=(pending("stop_task", 3),))
    assert [s.verb for s in d.settles] == ["stop_task"]
    assert d.acts == ()
    assert d.wake_at is not None
    assert d.wake_at < T0 + 5


def test_an_ended_task_is_removed_after_its_log_is_stored():
    j = ending(stop_grace_s=300.0)
    d = decided(j, HOST, TaskReported(state=wire.EXITED, exit_code=130, reason=wire.STOPPED))
    assert verbs(d) == ["remove_task"]
    assert changed(d, j) == {"task_ended": True, "exit_status": 130}


def test_a_removed_task_gives_its_blocks_back_and_tells_those_who_wait():
    j = ending(task_ended=True)
    d = decided(j, HOST, TaskRemoved())
    assert changed(d, j)["status"] is JobStatus.TERMINATED
    assert changed(d, HOST) == {"busy_blocks": 0}
    assert {HOST.ref, queue_ref(PROJECT), Ref("run", j.run_id)} <= set(d.wakes)
    assert d.wake_at is None
    assert messages(d) == ["Job status changed TERMINATING -> TERMINATED"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.DONE_BY_RUNNER, JobStatus.DONE),
        (Reason.ABORTED_BY_USER, JobStatus.ABORTED),
        (Reason.CONTAINER_EXITED_WITH_ERROR, JobStatus.FAILED),
        (Reason.MAX_DURATION_EXCEEDED, JobStatus.TERMINATED),
    ],
)
def test_the_final_status_follows_from_the_reason(reason: Reason, status: JobStatus):
    j = ending(reason, task_ended=True)
    assert changed(decided(j, HOST, TaskRemoved()), j)["status"] is status


def test_a_job_that_never_reached_a_host_ends_at_once():
    j = ending(task_started=False)
    assert changed(decided(j), j)["status"] is JobStatus.TERMINATED


def test_a_start_under_way_is_called_back_and_counts_as_started():
    j = ending(task_started=False)
    d = decided(j, HOST, acts=(pending("start_task"),))
    assert [s.verb for s in d.settles] == ["start_task"]
    assert changed(d, j) == {"task_started": True}
    assert d.acts == ()


def test_a_start_that_won_the_race_is_stopped_like_any_other():
    j = ending(task_started=False)
    assert verbs(decided(j, HOST, TaskAccepted())) == ["stop_task"]


def test_a_lost_task_is_still_removed_for_safety():
    assert verbs(decided(ending(), HOST, TaskLost())) == ["remove_task"]


def test_a_job_on_a_machine_that_goes_does_not_wait_for_its_agent():
    gone = HOST.replace(status=InstanceStatus.TERMINATING)
    j = ending()
    d = decided(j, gone, acts=(pending("remove_task", 2),))
    assert changed(d, j)["status"] is JobStatus.TERMINATED
    assert [s.verb for s in d.settles] == ["remove_task"]


def test_a_clean_up_that_takes_too_long_ends_the_job_and_its_machine():
    j = ending(Reason.DONE_BY_RUNNER, terminating_deadline=T0)
    d = decided(j)
    assert changed(d, j)["status"] is JobStatus.DONE
    assert changed(d, j)["termination_message"] == "Its removal from the host was not confirmed"
    assert changed(d, HOST)["terminate_requested"] is InstanceTerminationReason.UNREACHABLE
    assert HOST.ref in d.wakes


def test_a_persons_own_machine_is_kept_and_cleaned_up_when_it_is_back():
    own = HOST.replace(offer=offer(backend="local"))
    j = ending(terminating_deadline=T0)
    d = decided(j, own)
    assert "terminate_requested" not in changed(d, own)
    assert verbs(d) == ["remove_task"]


def test_a_removal_already_under_way_on_an_own_machine_goes_on_after_the_end():
    own = HOST.replace(offer=offer(backend="ssh"))
    d = decided(ending(terminating_deadline=T0, task_ended=True), own, acts=(pending("remove_task", 9),))
    assert "remove_task" not in [s.verb for s in d.settles]


def test_a_job_that_is_over_only_drops_what_still_comes():
    j = ending(status=JobStatus.DONE)
    d = decided(j, HOST, TaskReported(state=wire.RUNNING))
    assert d.empty
    assert d.consumes == (1,)
    assert d.wake_at is None
