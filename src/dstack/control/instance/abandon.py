"""Closing an instance whose machine cannot be verified gone: a person's word, and an orphan that keeps the memory."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.kernel import Draft
from dstack.ids import derived_id
from dstack.model.instance import Instance
from dstack.model.orphan import Orphan, OrphanOrigin

# Its provider is given this long to say that the machine is gone, unless it has failed to before.
LAST_TRY_S = 60.0


def last_try_ends(d: Draft[Instance]) -> float | None:
    """When an abandoned instance is closed; None: it is not abandoned, or is a host that costs nothing."""
    asked = d.row.abandon_requested_at
    if asked is None or d.row.remote is not None:
        return None
    tried = d.pending("terminate_instance")
    return d.now if tried is not None and tried.attempts > 0 else asked + LAST_TRY_S


def abandon(d: Draft[Instance]) -> None:
    """The machine stays listed by `dstack server orphans` until it is settled."""
    instance = d.row
    orphan = Orphan(
        id=derived_id(instance.id, "orphan"),
        project_id=instance.project_id,
        created_at=d.now,
        origin=OrphanOrigin.ABANDONED,
        backend=instance.offer.backend,
        token=instance.token,
        backend_id=instance.data.backend_id if instance.data is not None else instance.token,
        first_seen=d.now,
        machine_created_at=instance.started_at,
        data=instance.data,
        instance_id=instance.id,
        instance_name=instance.name,
    )
    d.create(orphan)
    d.settle("terminate_instance")
    text = "Instance closed though its machine is not verified gone: it may still cost money"
    d.event(text, wording.target(instance))
