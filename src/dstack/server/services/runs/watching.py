"""Waiting for a change of a run without polling."""

from __future__ import annotations

from typing import Any

from dstack.model.job import Job
from dstack.model.run import Run
from dstack.model.wire.requests import WatchRun
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.rows import fetch
from dstack.server.services.runs.reading import RunKey, find_run, views
from dstack.server.services.wire.runs import run as render_run
from dstack.server.store.tables import TABLES


async def watch(parts: Parts, access: Access, request: WatchRun) -> dict[str, Any]:
    """The run as soon as it differs from what `seen` stands for, at the latest after `wait_s`; `run` null: unknown."""
    key = RunKey(request.run_name, request.id and str(request.id))
    keys = await _keys(parts, access, key)
    if keys and request.seen is not None:
        await parts.changes.wait(request.seen, keys, request.wait_s)
    # Read before the rows: a change in between is told again, never missed.
    seen = parts.changes.seq(keys)
    async with parts.database.read() as connection:
        run = await find_run(connection, access.project.id, key)
        if run is None:
            return {"run": None, "seen": seen}
        view = (await views(connection, parts, [run], {access.project.id: access.project.name}))[0]
    return {"run": render_run(view), "seen": seen}


async def _keys(parts: Parts, access: Access, key: RunKey) -> list[str]:
    """What is published when the run or any of its jobs changes; further jobs come with a change of the run."""
    job = TABLES["job"]
    async with parts.database.read() as connection:
        run: Run | None = await find_run(connection, access.project.id, key)
        if run is None:
            return []
        jobs = await fetch(connection, Job, job.c.run_id == run.id)
    return [f"run:{run.id}", *(f"job:{one.id}" for one in jobs)]
