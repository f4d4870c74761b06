"""What an instance learns from its inbox."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dstack.control.kernel import Draft, Received
from dstack.control.policy.deadlines import unreachable_deadline
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.observation import CreateFailed, Gone, InstanceCreated, LinkDown, LinkUp, NoCapacity, Vanished


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
        match received.observation:
            case InstanceCreated(data=data):
                d.set(data=data, started_at=d.now if d.row.started_at is None else d.row.started_at)
            case NoCapacity(message=message):
                facts.end = (Reason.NO_OFFERS, message or "The provider has no capacity")
            case CreateFailed(message=message):
                facts.end = (Reason.ERROR, message or "The provider refused to create the instance")
            case Vanished(message=message, preempted=preempted):
                words = (
                    "The provider took the instance back" if preempted else "The instance vanished from its provider"
                )
                d.set(preempted=d.row.preempted or preempted)
                facts.end = (Reason.ERROR, message or words)
            case Gone():
                facts.gone = True
            case LinkUp(host=host):
                facts.linked_anew = not d.row.linked
                facts.lost_link = False
                d.set(linked=True, host=host, unreachable_since=None, unreachable_deadline=None)
            case LinkDown():
                _link_down(d, facts)
            case _:
                pass  # not about an instance: a bug of the sender, harmless here
    return facts


def _link_down(d: Draft[Instance], facts: Facts) -> None:
    if not d.row.linked:
        return
    facts.lost_link, facts.linked_anew = True, False
    d.set(linked=False)
    if d.row.status in (InstanceStatus.IDLE, InstanceStatus.BUSY):
        d.set(unreachable_since=d.now, unreachable_deadline=unreachable_deadline(d.row.offer.backend, d.now))
