"""Changes of an active run in place: which are legal, and how they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control import wording
from dstack.control.run.decide import queue_ref
from dstack.errors import DstackError
from dstack.model.event import Event
from dstack.model.job import Job
from dstack.model.row import Ref
from dstack.model.run import Run, RunSpec
from dstack.server.auth.identity import Access
from dstack.server.services.rows import change_rows, fetch, live
from dstack.server.services.specs import effective_run_spec, read_run_spec
from dstack.server.services.wire.specs import run_spec as render_spec
from dstack.server.store.commit import record_events, wake
from dstack.server.store.tables import TABLES

# `version`, of the IDE: the command line finds it out anew each time, and it matters at the next start alone.
IN_PLACE = ("priority", "inactivity_duration", "version")
# What clients fill in anew each time, and what does not change the job.
_IGNORED = ("run_name", "repo_id", "repo_data", "repo_dir", "configuration_path", "profile", "ssh_key_pub")
CHANGED = "Failed to apply plan. Resource has been changed. Try again or use force apply."


def changed_fields(old: RunSpec, new: RunSpec) -> list[str]:
    """Names of what differs between two effective specs; those of the configuration as they are."""
    before, after = render_spec(old), render_spec(new)
    around = _differing(before, after, (*_IGNORED, "configuration"))
    if _commit(old) != _commit(new):
        around.append("repo_data")
    return around + _differing(before["configuration"], after["configuration"], ())


def _commit(spec: RunSpec) -> tuple[object, ...]:
    """Which code the run brings along, its uploaded changes aside."""
    data = spec.repo_data or {}
    known = data.get("repo_type") == "remote"
    return (spec.repo_id, data.get("repo_branch"), data.get("repo_hash")) if known else ()


def not_in_place(old: RunSpec, new: RunSpec) -> list[str]:
    """What differs and cannot be changed while the run is active."""
    return [name for name in changed_fields(old, new) if name not in IN_PLACE]


def check_current(existing: Run, seen: Mapping[str, Any] | None, force: bool) -> None:
    """Raises DstackError when the run is not the one that the plan was made for."""
    if force:
        return
    if seen is None or str(seen.get("id")) != existing.id:
        raise DstackError(CHANGED)
    try:
        planned_for = effective_run_spec(read_run_spec(seen.get("run_spec") or {}))
    except DstackError:
        raise DstackError(CHANGED) from None
    if changed_fields(planned_for, existing.spec):
        raise DstackError(CHANGED)


async def update_run(connection: AsyncConnection, access: Access, existing: Run, spec: RunSpec, now: float) -> set[Ref]:
    """Change the run; answers the rows that were touched. Raises DstackError when it must be stopped first."""
    fixed = not_in_place(existing.spec, spec)
    if fixed:
        raise DstackError(
            f"Failed to update the active run {existing.name}: {', '.join(fixed)} cannot be changed in place",
            hint=f"stop it first: `dstack stop {existing.name}`",
        )
    changed = changed_fields(existing.spec, spec)
    if not changed:
        return set()
    priority = spec.configuration.priority or 0
    await change_rows(connection, Run, [existing.id], spec=spec, priority=priority, last_processed_at=now)
    job = TABLES["job"]
    jobs = await fetch(connection, Job, job.c.run_id == existing.id, live(Job), lock=True)
    await change_rows(connection, Job, [one.id for one in jobs], priority=priority)
    if "inactivity_duration" in changed:
        limit = getattr(spec.configuration, "inactivity_duration", None)
        for one in jobs:
            own = one.spec.model_copy(update={"inactivity_duration_s": limit})
            await change_rows(connection, Job, [one.id], spec=own)
    message = f"Run updated. Changed fields: {', '.join(changed)}"
    event = Event(message, (wording.target(existing),), access.user.id, access.project.id)
    await record_events(connection, [event], now)
    touched = {existing.ref, *(one.ref for one in jobs), queue_ref(existing.project_id)}
    await wake(connection, touched, now)
    return touched


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], ignored: tuple[str, ...]) -> list[str]:
    return [name for name in dict.fromkeys((*old, *new)) if name not in ignored and old.get(name) != new.get(name)]
