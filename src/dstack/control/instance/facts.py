"""What an instance learns from its inbox."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dstack.control import wording
from dstack.control.kernel import Draft, Received
from dstack.control.policy import idle
from dstack.control.policy.deadlines import unreachable_deadline
from dstack.control.run.decide import queue_ref
from dstack.control.scheduling.candidates import blocks_of
from dstack.control.scheduling.reasons import Miss
from dstack.model.instance import HostInfo, Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.observation import (
    CreateFailed,
    Gone,
    HostHealth,
    HostTrouble,
    HostUnfit,
    InstanceCreated,
    LinkDown,
    LinkUp,
    NoCapacity,
    Observation,
    Vanished,
)
from dstack.model.row import Ref

FEWER = "the host has only"


@dataclass(slots=True)
class Facts:
    """`end`: the reason and message for which it must go."""

    end: tuple[Reason, str] | None = None
    gone: bool = False
    linked_anew: bool = False
    lost_link: bool = False


def absorb(d: Draft[Instance], inbox: Iterable[Received]) -> Facts:
    """Consume everything; facts about the machine are kept on the row."""
    facts = Facts()
    for received in inbox:
        d.consume(received)
        if d.row.terminal:
            continue
        if not _of_link(d, facts, received.observation):
            _of_provider(d, facts, received.observation)
    return facts


def _of_link(d: Draft[Instance], facts: Facts, seen: Observation) -> bool:
    """What was seen of the host itself; whether it was that."""
    match seen:
        case LinkUp(host=host):
            _link_up(d, facts, host)
        case LinkDown(message=message):
            _link_down(d, facts, message)
        case HostHealth():
            _health(d, seen)
        case HostUnfit(report=report):
            d.set(report=report)
        case HostTrouble(message=message):
            if not d.row.linked:
                d.set(unreachable_message=message)
        case _:
            return False
    return True


def _of_provider(d: Draft[Instance], facts: Facts, seen: Observation) -> None:
    match seen:
        case InstanceCreated():
            _created(d, facts, seen)
        case NoCapacity(message=message):
            facts.end = (Reason.NO_OFFERS, message or "The provider has no capacity")
        case CreateFailed(message=message):
            facts.end = (Reason.ERROR, message or "The provider refused to create the instance")
        case Vanished(message=message, preempted=preempted):
            words = "The provider took the instance back" if preempted else "The instance vanished from its provider"
            d.set(preempted=d.row.preempted or preempted)
            facts.end = (Reason.ERROR, message or words)
        case Gone(message=message):
            facts.gone = True
            if message:
                d.event(f"Instance given up: {message}", wording.target(d.row))
        case _:
            pass  # not about an instance: a bug of the sender, harmless here


def _created(d: Draft[Instance], facts: Facts, created: InstanceCreated) -> None:
    data = created.data
    if data.internal_ip is None and d.row.data is not None:
        data = data.model_copy(update={"internal_ip": d.row.data.internal_ip})  # found by the fleet meanwhile
    d.set(data=data, started_at=d.now if d.row.started_at is None else d.row.started_at)
    if d.row.remote is None or created.offer is None:
        return
    d.set(report=created.report)
    d.wake(Ref("fleet", d.row.fleet_id))
    if d.row.busy_blocks:
        return  # its jobs were given shares of what it was; what it is now counts when it is set up again
    blocks = blocks_of(d.row.remote.blocks, created.offer)
    if isinstance(blocks, Miss):
        facts.end = (Reason.ERROR, f"{d.row.remote.key}: blocks: {blocks.reason}")
        return
    d.set(offer=created.offer, total_blocks=blocks)
    if d.row.host is not None and d.row.host.health_message.startswith(FEWER):
        _take_host(d, d.row.host.model_copy(update={"health": "healthy", "health_message": ""}))


def _link_up(d: Draft[Instance], facts: Facts, host: HostInfo) -> None:
    facts.linked_anew, facts.lost_link = not d.row.linked, False
    rebooted = d.row.host is not None and bool(d.row.host.boot_id) and host.boot_id != d.row.host.boot_id
    if rebooted or d.row.unreachable_since is not None:
        how = "The host was rebooted and answers again" if rebooted else "The host answers again"
        d.event(how, wording.target(d.row))
    d.set(linked=True, unreachable_since=None, unreachable_deadline=None, unreachable_message=None)
    _take_host(d, host)


def _health(d: Draft[Instance], found: HostHealth) -> None:
    if d.row.host is not None:
        health = {"health": found.health, "health_message": found.message}
        _take_host(d, d.row.host.model_copy(update=health))


def _take_host(d: Draft[Instance], host: HostInfo) -> None:
    """Accelerators that fail, or are not there any more, take the host out of placement; jobs that run there go on."""
    host = _counted(d.row, host)
    before = d.row.host.health if d.row.host is not None else "healthy"
    was = d.row.host.agent_version if d.row.host is not None else ""
    if was and host.agent_version and host.agent_version != was:
        d.event(f"The agent was {was} and is {host.agent_version} now", wording.target(d.row))
    strange = d.row.unknown_tasks
    d.set(host=host.model_copy(update={"health_at": d.now}) if host.gpus else host)
    _unknown_tasks(d, strange)
    if host.health == before:
        return
    words = f": {host.health_message}" if host.health_message else ""
    d.event(f"Instance health changed {before.upper()} -> {host.health.upper()}{words}", wording.target(d.row))
    if before == "failure":
        d.wake(queue_ref(d.row.project_id))


def _unknown_tasks(d: Draft[Instance], before: int) -> None:
    """While there are any it takes no new jobs and does not idle; its time to idle begins when they are over."""
    now = d.row.unknown_tasks
    if now == before:
        return
    if now:
        d.event(f"Instance {wording.unknown_tasks(now)}: it takes no new jobs", wording.target(d.row))
        return
    d.event("The tasks that no job of this server answers for have ended", wording.target(d.row))
    if d.row.status is InstanceStatus.IDLE:
        d.set(idle_since=d.now, idle_deadline=idle.deadline(d.now, d.row.idle_duration_s))
    d.wake(queue_ref(d.row.project_id), Ref("fleet", d.row.fleet_id))


def _counted(row: Instance, host: HostInfo) -> HostInfo:
    """A host of one's own that has fewer accelerators than it was taken in with would fail the jobs that count on them.

    The vendors' tools leave out a device that fell off its bus when they are asked for the first time after a reboot.
    """
    had = len(row.offer.resources.gpus)
    if row.remote is None or host.gpus >= had or host.health == "failure":
        return host
    words = f"{FEWER} {host.gpus} of the {had} accelerators with which it was taken in; "
    words += "where that is meant, apply the fleet again"
    return host.model_copy(update={"health": "failure", "health_message": words})


def _link_down(d: Draft[Instance], facts: Facts, message: str) -> None:
    if not d.row.linked:
        return
    facts.lost_link, facts.linked_anew = True, False
    d.set(linked=False)
    if d.row.status in (InstanceStatus.IDLE, InstanceStatus.BUSY):
        d.set(unreachable_since=d.now, unreachable_deadline=unreachable_deadline(d.row.offer.backend, d.now))
        d.set(unreachable_message=message or None)
        d.event("The host does not answer" + (f": {message}" if message else ""), wording.target(d.row))
