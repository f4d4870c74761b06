"""The end of a job: stop the task, store its log, remove it from its host, give back the blocks."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.kernel import Draft
from dstack.control.policy.deadlines import OWN_MACHINES, RECHECK_S, settle_delay, terminating_deadline
from dstack.control.run.decide import queue_ref
from dstack.model.instance import Instance, InstanceTerminationReason
from dstack.model.job import Job, JobStatus
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.row import Ref

UNCONFIRMED = "its removal from the host was not confirmed"
# Ends that leave the process its stop duration; all others kill at once.
_GRACEFUL = frozenset(
    {
        Reason.TERMINATED_BY_USER,
        Reason.TERMINATED_BY_SERVER,
        Reason.MAX_DURATION_EXCEEDED,
        Reason.TERMINATED_DUE_TO_UTILIZATION_POLICY,
        Reason.INACTIVITY_DURATION_EXCEEDED,
    }
)


def run_ref(job: Job) -> Ref:
    return Ref("run", job.run_id)


def begin(d: Draft[Job], reason: Reason, message: str | None = None, **fields: object) -> None:
    """The job ends for this reason; everything that follows is clean-up."""
    job = d.row
    d.event(wording.status_changed(job, JobStatus.TERMINATING, reason, message), wording.target(job))
    d.set(
        status=JobStatus.TERMINATING,
        termination_reason=reason,
        termination_message=message,
        terminating_deadline=terminating_deadline(job.spec.stop_duration_s, d.now),
        last_processed_at=d.now,
        **fields,
    )
    d.wake(run_ref(job))


def pursue(d: Draft[Job], instance: Instance | None) -> float:
    """The next step of the clean-up of a task that may exist on the host. Answers when to look again at the latest."""
    start = d.pending("start_task")
    if start is not None:
        _call_back(d)
        return d.now + settle_delay(start.created_at, d.now)
    job = d.row
    if not job.task_started or machine_goes(instance):
        return d.now  # nothing is left to do: the next turn finishes
    if job.task_ended:
        d.settle("stop_task")
        d.act("remove_task")
        return d.now + RECHECK_S
    return d.now + _stop(d)


def done(d: Draft[Job], instance: Instance | None, *, removed: bool) -> bool:
    """Nothing of the task can be on the host any more, as far as anyone can still find out."""
    if removed or machine_goes(instance):
        return True
    return not d.row.task_started and not d.unfinished("start_task")


def finish(d: Draft[Job], instance: Instance | None, going_on: tuple[str, ...] = ()) -> None:
    """The final status; the blocks go back, and whoever waits for them hears of it."""
    job = d.row
    reason = job.termination_reason or Reason.EXECUTOR_ERROR
    d.event(wording.status_changed(job, reason.final_status), wording.target(job))
    d.set(status=reason.final_status, finished_at=d.now, last_processed_at=d.now)
    for verb in ("start_task", "stop_task", "remove_task", "warn_task"):
        if verb not in going_on:
            d.settle(verb)
    release(d, instance)
    d.wake(run_ref(job))


def give_up(d: Draft[Job], instance: Instance | None) -> None:
    """The deadline of the clean-up has passed: the job ends, and its machine is not used again as it is."""
    job = d.row
    message = job.termination_message
    d.set(termination_message=f"{message}; {UNCONFIRMED}" if message else UNCONFIRMED.capitalize())
    if instance is not None and instance.offer.backend in OWN_MACHINES:
        d.act("remove_task", force=True)  # goes on in the background: the host may come back
        finish(d, instance, going_on=("remove_task",))
        return
    finish(d, instance)
    if instance is not None and instance.terminate_requested is None:
        d.change(
            instance,
            terminate_requested=InstanceTerminationReason.UNREACHABLE,
            terminate_message=f"Job {job.spec.name} ended, but {UNCONFIRMED}",
        )


def release(d: Draft[Job], instance: Instance | None) -> None:
    """Give the job's blocks back to its instance."""
    job = d.row
    if instance is not None and not instance.terminal and job.place is not None:
        d.change(instance, busy_blocks=max(instance.busy_blocks - job.place.blocks, 0))
        d.wake(instance.ref, queue_ref(job.project_id))


def _call_back(d: Draft[Job]) -> None:
    """Withdraw a start that is not known to have ended. It may have reached the host: its worker can have died between
    the effect and its record, so the task counts as started and is stopped and removed there like any other."""
    d.set(task_started=True)
    d.settle("start_task")


def _stop(d: Draft[Job]) -> float:
    """Ask the process to end: once, and once more if the person lost patience. Seconds until the next look."""
    job = d.row
    reason = job.stop_reason if job.stop_reason is Reason.ABORTED_BY_USER else job.termination_reason
    grace = job.spec.stop_duration_s if reason in _GRACEFUL else 0.0
    if job.stop_grace_s is not None and job.stop_grace_s <= grace:
        return RECHECK_S
    earlier = d.pending("stop_task")
    if earlier is not None:
        d.settle("stop_task")  # the sharper one follows when it is out of the way
        return settle_delay(earlier.created_at, d.now)
    d.act("stop_task", attempt=f"{grace:g}", grace_s=grace, reason=str(reason))
    d.set(stop_grace_s=grace)
    return RECHECK_S


def machine_goes(instance: Instance | None) -> bool:
    return instance is None or instance.going
