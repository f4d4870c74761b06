"""What a job does next: wait for its place, start, be watched, end, and leave nothing behind."""

from __future__ import annotations

from dstack.agentapi import wire
from dstack.control import wording
from dstack.control.job import ending, gang, verdicts
from dstack.control.job.facts import Facts, absorb
from dstack.control.kernel import Decision, Draft
from dstack.control.policy import inactivity, utilization
from dstack.control.policy.deadlines import JOB_PULL_S, JOB_START_S, RECHECK_S
from dstack.control.policy.retry import MAX_OFFERS_TRIED
from dstack.control.run.decide import queue_ref
from dstack.control.snapshots import JobSnapshot
from dstack.model.instance import Instance, InstanceStatus, InstanceTerminationReason
from dstack.model.job import DropReason, Job, JobStatus, PlacementReport, Utilization
from dstack.model.job import JobTerminationReason as Reason

_LIVE = (JobStatus.PROVISIONING, JobStatus.PULLING, JobStatus.RUNNING)


def decide(s: JobSnapshot, now: float) -> Decision:
    d = Draft(s.job, now, s.pending)
    facts = absorb(d, s.inbox)
    if s.job.terminal:
        return d.finish()
    if s.job.status is JobStatus.TERMINATING:
        return d.finish(*_terminating(d, s.instance, facts))
    if s.job.status in _LIVE:
        _live(d, s, facts)
    elif d.row.stop_reason is not None:
        ending.begin(d, d.row.stop_reason, d.row.stop_message)
    if d.row.is_gang and d.row.running_since is not None and s.job.running_since is None:
        d.wake(ending.run_ref(d.row))  # others may wait for it to run
    if d.row.status is JobStatus.TERMINATING:
        return d.finish(ending.pursue(d, s.instance), d.row.terminating_deadline)
    return d.finish(now + RECHECK_S, *_deadlines(d.row, s.instance))


def _deadlines(job: Job, instance: Instance | None) -> tuple[float | None, ...]:
    if job.status in (JobStatus.PROVISIONING, JobStatus.PULLING):
        return (job.provisioning_deadline,)
    if job.status is not JobStatus.RUNNING:
        return ()
    # Its host's return wakes this row: a deadline that passes meanwhile would make it due again and again.
    look = None if _silent(instance) else inactivity.next_look(job)
    return (job.max_duration_deadline, job.utilization_check_at, look)


def _terminating(d: Draft[Job], instance: Instance | None, facts: Facts) -> tuple[float | None, ...]:
    job = d.row
    if ending.done(d, instance, removed=facts.removed):
        ending.finish(d, instance)
    elif job.terminating_deadline is not None and job.terminating_deadline <= d.now:
        ending.give_up(d, instance)
    else:
        return (ending.pursue(d, instance), d.row.terminating_deadline)
    return ()


def _live(d: Draft[Job], s: JobSnapshot, facts: Facts) -> None:
    """What is known ends the job first, then what is asked, then what is late; else it goes on."""
    job, instance = d.row, s.instance
    if facts.report is not None and facts.report.state in wire.ENDED:
        verdict = verdicts.of_report(job, facts.report)
        ending.begin(d, verdict.reason, verdict.message, exit_status=verdict.exit_status)
    elif facts.refused is not None:
        ending.begin(d, Reason.CREATING_CONTAINER_ERROR, facts.refused)
    elif facts.lost:
        ending.begin(d, Reason.EXECUTOR_ERROR, "The host does not know the job any more")
    elif job.stop_reason is not None:
        ending.begin(d, job.stop_reason, job.stop_message)
    elif ending.machine_goes(instance):
        _after_instance(d, instance)
    elif not _late(d, instance):
        _advance(d, s, facts)


def _late(d: Draft[Job], instance: Instance | None) -> bool:
    """End the job if a deadline of its state has passed."""
    job = d.row
    if job.status is JobStatus.RUNNING:
        if job.max_duration_deadline is None or job.max_duration_deadline > d.now:
            return _deserted(d, instance)
        limit = wording.duration(job.spec.max_duration_s or 0)
        ending.begin(d, Reason.MAX_DURATION_EXCEEDED, f"The run reached its max_duration of {limit}")
        return True
    if job.provisioning_deadline is None or job.provisioning_deadline > d.now:
        return False
    if instance is None or not instance.linked:
        # Placed on a machine that was still to be made, it had longer than on one that was there.
        limit = wording.duration(round((job.provisioning_deadline - job.last_processed_at) / 60) * 60)
        ending.begin(d, Reason.WAITING_INSTANCE_LIMIT_EXCEEDED, f"The instance was not ready within {limit}")
    elif job.status is JobStatus.PULLING:
        limit = wording.duration(JOB_PULL_S)
        ending.begin(d, Reason.WAITING_RUNNER_LIMIT_EXCEEDED, f"The image was not pulled within {limit}")
    else:
        limit = wording.duration(JOB_START_S)
        start = d.pending("start_task")
        why = f": {start.last_error}" if start is not None and start.last_error else ""
        ending.begin(d, Reason.WAITING_RUNNER_LIMIT_EXCEEDED, f"The agent did not start the job within {limit}{why}")
    return True


def _deserted(d: Draft[Job], instance: Instance | None) -> bool:
    """End the job if nobody was in for too long, warn before. Of a host that does not answer nobody knows."""
    job = d.row
    end, warning = inactivity.end_at(job), inactivity.warn_at(job)
    if end is None or warning is None or job.session is None or _silent(instance):
        return False
    limit = wording.duration(job.spec.inactivity_duration_s or 0)
    if end <= d.now:
        ending.begin(d, Reason.INACTIVITY_DURATION_EXCEEDED, f"Nobody was connected to the run for {limit}")
        return True
    if warning <= d.now and not job.session.warned:
        left = wording.duration(end - d.now)
        words = f"Nobody is connected to the run. It stops in {left} unless somebody is then"
        d.event(words, wording.target(job))
        d.act("warn_task", attempt=f"{end:.0f}", message=words)
        d.set(session=job.session.model_copy(update={"warned": True}))
    return False


def _silent(instance: Instance | None) -> bool:
    return instance is None or instance.unreachable_since is not None


def _advance(d: Draft[Job], s: JobSnapshot, facts: Facts) -> None:
    job = d.row
    state = facts.report.state if facts.report else ""
    if state in (wire.RUNNING, wire.STOPPING) and job.status is not JobStatus.RUNNING:
        _take_status(d, JobStatus.RUNNING)
        since = job.running_since if job.running_since is not None else d.now
        limit = job.spec.max_duration_s
        used = job.spec.utilization
        d.set(
            running_since=since,
            max_duration_deadline=None if limit is None else since + limit,
            utilization_check_at=None if used is None else utilization.next_check(0.0, used.window_s, since),
        )
    elif state == wire.PULLING and job.status is JobStatus.PROVISIONING:
        _take_status(d, JobStatus.PULLING)
        d.set(provisioning_deadline=d.now + JOB_PULL_S)
    elif job.status is JobStatus.RUNNING and job.spec.utilization is not None:
        _watch_gpus(d, job.spec.utilization, facts.idle_s)
    elif job.status is JobStatus.PROVISIONING and not job.task_started:
        if _ready(s.instance):
            _start(d, s.instance, s.gang)
        elif job.ready_since is not None and job.provisioning_deadline is None and not gang.waits_for(job, s.gang):
            d.set(provisioning_deadline=d.now + JOB_START_S)  # its turn has come and its machine went silent


def _watch_gpus(d: Draft[Job], policy: Utilization, idle_s: float | None) -> None:
    """Ask when it is time; the answer ends the job, or says when to ask again."""
    if idle_s is not None and utilization.over(idle_s, policy.window_s):
        window = wording.duration(policy.window_s)
        message = f"A GPU was used less than {policy.least_percent}% for {window}"
        ending.begin(d, Reason.TERMINATED_DUE_TO_UTILIZATION_POLICY, message)
    elif idle_s is not None:
        d.set(utilization_check_at=utilization.next_check(idle_s, policy.window_s, d.now))
    elif d.row.utilization_check_at is None or d.row.utilization_check_at <= d.now:
        d.probe("measure_gpus", least_percent=policy.least_percent, now=d.now)
        d.set(utilization_check_at=d.now + utilization.CHECK_S)


def _start(d: Draft[Job], instance: Instance | None, others: tuple[Job, ...]) -> None:
    if d.unfinished("start_task"):
        return
    if others:
        gang.tell_ready(d)
        if gang.waits_for(d.row, others) is not None:
            return
    d.act("start_task")
    d.set(provisioning_deadline=d.now + JOB_START_S)
    job = d.row
    if job.place is not None and instance is not None and instance.data is not None:
        d.set(place=job.place.model_copy(update={"hostname": instance.data.hostname}))


def _take_status(d: Draft[Job], status: JobStatus) -> None:
    d.event(wording.status_changed(d.row, status), wording.target(d.row))
    d.set(status=status, last_processed_at=d.now)
    d.wake(ending.run_ref(d.row))


def _ready(instance: Instance | None) -> bool:
    return instance is not None and instance.linked and instance.status in (InstanceStatus.IDLE, InstanceStatus.BUSY)


def _after_instance(d: Draft[Job], instance: Instance | None) -> None:
    """The machine ends under the job. One that was never there is replaced by the next offer."""
    job = d.row
    if instance is None:
        ending.begin(d, Reason.INSTANCE_UNREACHABLE, "The instance of the job does not exist any more")
        return
    reason, message = instance.termination_reason, instance.termination_message
    if instance.host is None and not job.task_started and reason in _NO_MACHINE:
        _next_offer(d, instance)
    elif instance.host is None and reason is InstanceTerminationReason.PROVISIONING_TIMEOUT:
        ending.begin(d, Reason.WAITING_INSTANCE_LIMIT_EXCEEDED, message)
    elif instance.preempted or (instance.offer.spot and reason is not InstanceTerminationReason.TERMINATED_BY_USER):
        ending.begin(d, Reason.INTERRUPTED_BY_NO_CAPACITY, message or "The instance was taken back by its provider")
    else:
        words = _ENDINGS.get(reason, f"Instance {instance.name} was terminated") if reason else "Instance ended"
        ending.begin(d, Reason.INSTANCE_UNREACHABLE, message or words)


def _next_offer(d: Draft[Job], instance: Instance) -> None:
    """The provider had none: back to the queue, which will pass this offer over."""
    job = d.row
    key = instance.offer.key
    tried = (*job.tried_offers, key)
    why = instance.termination_message or "no capacity"
    if len(tried) >= MAX_OFFERS_TRIED:
        message = f"Tried {len(tried)} offers without success. The last, {key}: {why}"
        ending.begin(d, Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY, message, tried_offers=tried)
        return
    drop = DropReason(stage="create", reason=f"{key}: {why}", nearest=key)
    earlier = job.placement.drops if job.placement else ()
    d.event(wording.status_changed(job, JobStatus.SUBMITTED) + f" ({key}: {why})", wording.target(job))
    ending.release(d, instance)
    d.set(
        status=JobStatus.SUBMITTED,
        tried_offers=tried,
        instance_id=None,
        place=job.place if job.is_gang else None,  # the others of its gang are there: the queue looks beside them
        provisioning_deadline=None,
        placement=PlacementReport(at=d.now, drops=(*(x for x in earlier if x.stage == "create"), drop)),
        last_processed_at=d.now,
    )
    d.wake(ending.run_ref(job), queue_ref(job.project_id))


_NO_MACHINE = (InstanceTerminationReason.NO_OFFERS, InstanceTerminationReason.ERROR)
_ENDINGS = {
    InstanceTerminationReason.TERMINATED_BY_USER: "The instance was terminated by a user",
    InstanceTerminationReason.UNREACHABLE: "The instance did not answer for too long",
    InstanceTerminationReason.ERROR: "The instance failed",
}
