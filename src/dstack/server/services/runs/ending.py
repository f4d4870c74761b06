"""Intents that end runs: stop, abort, delete. The engine does what follows from them."""

from __future__ import annotations

from collections.abc import Sequence

from dstack.control import wording
from dstack.errors import DstackError
from dstack.model.event import Event
from dstack.model.run import Run
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.rows import announce, change_rows, fetch, live
from dstack.server.store.commit import record_events, wake
from dstack.server.store.tables import TABLES

run_t = TABLES["run"]


async def stop(parts: Parts, access: Access, names: Sequence[str], abort: bool) -> None:
    """Ask the active runs among `names` to stop, or at once with `abort`. Unknown and finished ones are passed over."""
    now = parts.clock.now()
    async with parts.database.write() as connection:
        runs = await fetch(connection, Run, *_named(access, names), live(Run), lock=True)
        fresh = [run for run in runs if run.stop_requested_at is None]
        harder = [run for run in runs if abort and not run.abort_requested and run not in fresh]
        asked = {"stop_requested_at": now, "stop_actor_id": access.user.id, "abort_requested": abort}
        await change_rows(connection, Run, [run.id for run in fresh], **asked)
        await change_rows(connection, Run, [run.id for run in harder], abort_requested=True)
        touched = [run.ref for run in (*fresh, *harder)]
        await wake(connection, touched, now)
    announce(parts, touched)


async def delete(parts: Parts, access: Access, names: Sequence[str]) -> None:
    """Hide finished runs; unknown ones are passed over. Raises DstackError, and deletes nothing, when one is active."""
    now = parts.clock.now()
    async with parts.database.write() as connection:
        runs = await fetch(connection, Run, *_named(access, names), lock=True)
        active = sorted(run.name for run in runs if not run.terminal)
        if active:
            raise DstackError(f"Cannot delete active runs: {active}", hint=f"stop it first: `dstack stop {active[0]}`")
        await change_rows(connection, Run, [run.id for run in runs], deleted=True)
        events = [Event("Run deleted", (wording.target(run),), access.user.id, access.project.id) for run in runs]
        await record_events(connection, events, now)
    announce(parts, [run.ref for run in runs])


def _named(access: Access, names: Sequence[str]):
    return (run_t.c.project_id == access.project.id, run_t.c.name.in_(sorted(set(names))), run_t.c.deleted.is_(False))
