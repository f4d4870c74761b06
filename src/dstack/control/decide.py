"""The one entry: any snapshot to what its resource decides."""

from __future__ import annotations

from dstack.control.chore.decide import decide as decide_chore
from dstack.control.chore.orphan import decide as decide_orphan
from dstack.control.fleet.decide import decide as decide_fleet
from dstack.control.instance.decide import decide as decide_instance
from dstack.control.job.decide import decide as decide_job
from dstack.control.kernel import Turn
from dstack.control.queue.decide import decide as decide_queue
from dstack.control.run.decide import decide as decide_run
from dstack.control.snapshots import (
    ChoreSnapshot,
    FleetSnapshot,
    InstanceSnapshot,
    JobSnapshot,
    OrphanSnapshot,
    QueueSnapshot,
    RunSnapshot,
    Snapshot,
)


def decide(snapshot: Snapshot, now: float) -> Turn:
    """What the resource of the snapshot does at `now`. Pure: the same arguments, the same turn."""
    match snapshot:
        case RunSnapshot():
            return Turn(decide_run(snapshot, now))
        case JobSnapshot():
            return Turn(decide_job(snapshot, now))
        case InstanceSnapshot():
            return Turn(decide_instance(snapshot, now))
        case FleetSnapshot():
            return Turn(decide_fleet(snapshot, now))
        case QueueSnapshot():
            return decide_queue(snapshot, now)
        case ChoreSnapshot():
            return Turn(decide_chore(snapshot, now))
        case OrphanSnapshot():
            return Turn(decide_orphan(snapshot, now))
