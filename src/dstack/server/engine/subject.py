"""Which resources a decision is about, for the lines that are logged meanwhile."""

from __future__ import annotations

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


def subject(snapshot: Snapshot) -> dict[str, str | None]:
    """Ids by kind."""
    match snapshot:
        case RunSnapshot(run=run):
            return {"run": run.id}
        case JobSnapshot(job=job):
            return {"run": job.run_id, "job": job.id, "instance": job.instance_id}
        case InstanceSnapshot(instance=instance):
            return {"instance": instance.id, "fleet": instance.fleet_id}
        case FleetSnapshot(fleet=fleet):
            return {"fleet": fleet.id}
        case QueueSnapshot(queue=queue):
            return {"project": queue.project_id}
        case ChoreSnapshot(chore=chore):
            return {"chore": chore.id}
        case OrphanSnapshot(orphan=orphan):
            return {"orphan": orphan.id, "instance": orphan.instance_id}
        case _:
            return {}  # a kind that is newer than this list
