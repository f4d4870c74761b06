"""What an instance does next: be ordered, be linked, idle or work, and go until the provider says that it is gone."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.instance.abandon import abandon, last_try_ends
from dstack.control.instance.facts import absorb
from dstack.control.instance.remarks import report_text
from dstack.control.kernel import Decision, Draft
from dstack.control.policy import backoff, idle
from dstack.control.policy.deadlines import (
    FIRST_PROBE_S,
    INSTANCE_CREATE_S,
    INSTANCE_UNREACHABLE_S,
    RECHECK_S,
    UNREACHABLE_PROBE_S,
    settle_delay,
)
from dstack.control.run.decide import queue_ref
from dstack.control.snapshots import InstanceSnapshot
from dstack.model.fleet import Fleet
from dstack.model.instance import Cordon, Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.row import Ref

_FAILURES = frozenset({Reason.NO_OFFERS, Reason.ERROR, Reason.PROVISIONING_TIMEOUT})


def decide(s: InstanceSnapshot, now: float) -> Decision:
    d = Draft(s.instance, now, s.pending)
    facts = absorb(d, s.inbox)
    if s.instance.terminal:
        return d.finish()
    if facts.linked_anew or facts.lost_link:
        d.wake(*(j.ref for j in s.jobs), queue_ref(d.row.project_id))
    if s.instance.status is InstanceStatus.TERMINATING:
        return d.finish(_terminating(d, s, gone=facts.gone))
    if facts.end is not None:
        _terminate(d, s, *facts.end)
    elif d.row.terminate_requested is not None:
        _terminate(d, s, d.row.terminate_requested, d.row.terminate_message)
    elif _expired(d, s):
        pass
    elif s.instance.status is InstanceStatus.PENDING:
        _order(d, s)
    else:
        _set_up_again(d)
        _use(d, s)
        _empty(d)
    return d.finish(now + RECHECK_S, _ask_provider(d), *_deadlines(d.row, now))


def _ask_provider(d: Draft[Instance]) -> float | None:
    """While the machine does not answer, or not yet, its provider is asked whether it still exists."""
    instance = d.row
    if instance.status is InstanceStatus.PROVISIONING:
        if instance.started_at is None or instance.linked or instance.remote is not None:
            return None
        if d.now < instance.started_at + FIRST_PROBE_S:
            return instance.started_at + FIRST_PROBE_S
    elif instance.unreachable_since is None or instance.status is InstanceStatus.TERMINATING:
        return None
    d.probe("describe_instance", now=d.now)
    return d.now + UNREACHABLE_PROBE_S


def _deadlines(instance: Instance, now: float) -> tuple[float | None, ...]:
    match instance.status:
        case InstanceStatus.PROVISIONING:
            return (instance.provisioning_deadline,)
        case InstanceStatus.TERMINATING:
            return (now,)
        case _:
            future = instance.idle_deadline is not None and instance.idle_deadline > now
            return (instance.idle_deadline if future else None, instance.unreachable_deadline)


def _expired(d: Draft[Instance], s: InstanceSnapshot) -> bool:
    instance = d.row
    if instance.status is InstanceStatus.PROVISIONING:
        if instance.provisioning_deadline is None or instance.provisioning_deadline > d.now or instance.linked:
            return False
        limit = wording.duration(INSTANCE_CREATE_S)
        what = "did not answer" if instance.data is not None else "was not created"
        unfit = instance.report is not None and instance.report.failed
        message = report_text(instance) if unfit else f"The instance {what} within {limit}"
        _terminate(d, s, Reason.PROVISIONING_TIMEOUT, message)
        return True
    if instance.unreachable_deadline is not None and instance.unreachable_deadline <= d.now:
        limit = wording.duration(INSTANCE_UNREACHABLE_S)
        _terminate(d, s, Reason.UNREACHABLE, f"The instance did not answer for {limit}")
        return True
    return False


def _order(d: Draft[Instance], s: InstanceSnapshot) -> None:
    if s.fleet is None or s.fleet.terminal:
        _terminate(d, s, Reason.TERMINATED_BY_USER, "The fleet was deleted")
        return
    _take_status(d, InstanceStatus.PROVISIONING)
    d.set(provisioning_deadline=d.now + INSTANCE_CREATE_S)
    d.act("create_instance")


def _set_up_again(d: Draft[Instance]) -> None:
    """A person applied the fleet again: what is wrong with the host may be mended, or its settings are others now."""
    asked = d.row.setup_requested_at
    if asked is None:
        return
    d.set(setup_requested_at=None)
    if d.row.status is InstanceStatus.PROVISIONING:
        d.set(provisioning_deadline=d.now + INSTANCE_CREATE_S)
    d.act("create_instance", f"again at {asked}", again=True)


def _empty(d: Draft[Instance]) -> None:
    """A drained instance tells when its last job has left."""
    if d.row.cordon is Cordon.DRAINING and not d.row.busy_blocks:
        d.set(cordon=Cordon.CORDONED)
        d.event("Instance is drained: no job runs on it", wording.target(d.row))


def _use(d: Draft[Instance], s: InstanceSnapshot) -> None:
    """Idle or busy, as its blocks are; while idle a clock runs."""
    instance = d.row
    if instance.status is InstanceStatus.PROVISIONING and not instance.linked:
        return
    if instance.status is InstanceStatus.PROVISIONING:
        _forgive(d, s.fleet)
        d.wake(*(j.ref for j in s.jobs), queue_ref(instance.project_id))
    status = InstanceStatus.BUSY if instance.busy_blocks else InstanceStatus.IDLE
    if status is not instance.status:
        _take_status(d, status)
        since = d.now if status is InstanceStatus.IDLE else None
        deadline = None if since is None else idle.deadline(since, instance.idle_duration_s)
        d.set(idle_since=since, idle_deadline=deadline, provisioning_deadline=None)
    if status is InstanceStatus.IDLE and d.row.idle_deadline is not None and d.row.idle_deadline <= d.now:
        d.wake(Ref("fleet", instance.fleet_id))  # it alone knows whether this one is kept for the minimum


def _terminate(d: Draft[Instance], s: InstanceSnapshot, reason: Reason, message: str | None = None) -> None:
    instance = d.row
    text = wording.status_changed(instance, InstanceStatus.TERMINATING, reason, message)
    d.event(text, wording.target(instance))
    if reason in _FAILURES and instance.host is None:
        _blame(d, s.fleet, message or str(reason))
    d.set(
        status=InstanceStatus.TERMINATING,
        termination_reason=reason,
        termination_message=message,
        idle_since=None,
        idle_deadline=None,
        unreachable_deadline=None,
    )
    d.wake(Ref("fleet", instance.fleet_id), *(j.ref for j in s.jobs))


def _terminating(d: Draft[Instance], s: InstanceSnapshot, *, gone: bool) -> float:
    """Gone is what the provider says, never what we assume; an order that is under way is waited for."""
    instance = d.row
    never_ordered = instance.provisioning_deadline is None and instance.host is None and instance.data is None
    if gone or (never_ordered and not d.unfinished("create_instance")):
        return _over(d, s)
    order = d.pending("create_instance")
    if order is not None:
        # To look at a host of one's own and to leave it again does no harm, however far the look had come.
        if order.attempts > 0 and instance.remote is None:
            return d.now + RECHECK_S  # its end wakes this row
        d.settle("create_instance")
        return d.now + settle_delay(order.created_at, d.now)
    d.act("terminate_instance", machine=instance.token)
    last_try = last_try_ends(d)
    if last_try is not None and last_try <= d.now:
        abandon(d)
        return _over(d, s)
    return d.now + RECHECK_S if last_try is None else last_try


def _over(d: Draft[Instance], s: InstanceSnapshot) -> float:
    instance = d.row
    _take_status(d, InstanceStatus.TERMINATED)
    d.set(finished_at=d.now)
    d.wake(Ref("fleet", instance.fleet_id), queue_ref(instance.project_id), *(j.ref for j in s.jobs))
    return d.now


def _take_status(d: Draft[Instance], status: InstanceStatus) -> None:
    d.event(wording.status_changed(d.row, status), wording.target(d.row))
    d.set(status=status)


def _blame(d: Draft[Instance], fleet: Fleet | None, message: str) -> None:
    """The fleet pauses before it tries again by itself. Placement for runs is not held up by it."""
    if fleet is None or fleet.terminal or not _keeps_instances(fleet):
        return
    failures = fleet.create_failures + 1
    pause = backoff.fleet_create_delay(failures)
    d.change(fleet, create_failures=failures, next_create_at=d.now + pause, last_error=message)


def _forgive(d: Draft[Instance], fleet: Fleet | None) -> None:
    if fleet is not None and not fleet.terminal and fleet.create_failures:
        d.change(fleet, create_failures=0, next_create_at=None, last_error=None)


def _keeps_instances(fleet: Fleet) -> bool:
    nodes = fleet.spec.configuration.nodes
    return nodes is not None and (nodes.min > 0 or nodes.target > 0)
