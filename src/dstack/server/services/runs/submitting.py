"""Applying a plan: a new run, or a change of the active one, in one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control import wording
from dstack.control.run.decide import queue_ref
from dstack.control.run.submission import repository, submitted
from dstack.errors import DstackError, ResourceNotFound
from dstack.ids import new_id
from dstack.model.event import Event
from dstack.model.job import Job
from dstack.model.row import Ref
from dstack.model.run import FileArchiveMapping, Run, RunSpec
from dstack.model.wire.requests import ApplyRunPlan
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.projects import hold_project
from dstack.server.services.rows import announce, change_rows, insert_rows
from dstack.server.services.runs.planning import processes_only, refusals, with_key
from dstack.server.services.runs.reading import RunKey, find_run, find_view, new_view
from dstack.server.services.runs.updating import CHANGED, check_current, update_run
from dstack.server.services.specs import effective_run_spec, read_run_spec
from dstack.server.services.wire.runs import run as render_run
from dstack.server.store.commit import record_events, wake
from dstack.server.store.tables import TABLES, archive, repo_code
from dstack.values.names import random_name


async def apply_plan(parts: Parts, access: Access, request: ApplyRunPlan) -> dict[str, Any]:
    """The rendered run. Raises DstackError when the plan refuses it, or no longer holds."""
    spec = effective_run_spec(with_key(read_run_spec(request.plan.run_spec), access))
    offers = await parts.offers.all(access.project.id)
    now = parts.clock.now()
    async with parts.database.read() as connection:
        processes = await processes_only(connection, access.project.id, offers)
    if refused := refusals(spec, processes, parts.settings.jobs_url):
        raise DstackError("\n".join(refused))
    async with parts.database.write() as connection:
        spec = await _with_archives(connection, access.user.id, spec)
        await _check_changes(connection, access.project.id, spec)
        key = RunKey(spec.run_name)
        existing = await find_run(connection, access.project.id, key, lock=True) if spec.run_name else None
        if existing is not None and not existing.terminal:
            check_current(existing, request.plan.current_resource, request.force)
            touched = await update_run(connection, access, existing, spec, now)
            view = await find_view(connection, parts, access, RunKey(id=existing.id))
        else:
            if request.plan.current_resource is not None and not request.force and existing is None:
                raise DstackError(CHANGED)
            run, jobs, touched = await _submit(connection, access, existing, spec, now)
            view = new_view(parts, access, run, jobs)
    announce(parts, touched)
    return render_run(view)


async def _submit(
    connection: AsyncConnection, access: Access, finished: Run | None, spec: RunSpec, now: float
) -> tuple[Run, Sequence[Job], set[Ref]]:
    await hold_project(connection, access)
    touched: set[Ref] = set()
    if finished is not None:
        # The old run stays in `ps -a`; its name goes to the new one.
        await change_rows(connection, Run, [finished.id], deleted=True)
        touched.add(finished.ref)
    name = spec.run_name or await _free_name(connection, access.project.id)
    run = Run(
        id=new_id(),
        project_id=access.project.id,
        created_at=now,
        name=name,
        user_id=access.user.id,
        spec=spec.model_copy(update={"run_name": name}),
        priority=spec.configuration.priority or 0,
        submitted_at=now,
        last_processed_at=now,
    )
    run, jobs = submitted(run, now)
    await insert_rows(connection, [run], now)
    await insert_rows(connection, jobs, now)
    await record_events(connection, _events(run, jobs), now)
    queue = queue_ref(run.project_id)
    await wake(connection, [queue], now)
    return run, jobs, touched | {run.ref, queue, *(job.ref for job in jobs)}


def _events(run: Run, jobs: Sequence[Job]) -> list[Event]:
    submitted = f"Run submitted. Status: {run.status.upper()}"
    events = [Event(submitted, (wording.target(run),), run.user_id, run.project_id)]
    for job in jobs:
        created = f"Job created on run submission. Status: {job.status.upper()}"
        events.append(Event(created, (wording.target(job),), None, run.project_id))
    return events


async def _free_name(connection: AsyncConnection, project_id: str) -> str:
    run = TABLES["run"]
    taken = await connection.execute(select(run.c.name).where(run.c.project_id == project_id, run.c.deleted.is_(False)))
    return random_name(secrets.randbelow, set(taken.scalars()))


async def _with_archives(connection: AsyncConnection, user_id: str, spec: RunSpec) -> RunSpec:
    """The hashes of the uploads that the spec names by id. Raises ResourceNotFound for one that is not the caller's."""
    if not spec.file_archives:
        return spec
    ids = sorted({one.id for one in spec.file_archives})
    statement = select(archive.c.id, archive.c.hash).where(archive.c.id.in_(ids), archive.c.user_id == user_id)
    hashes = {row.id: row.hash for row in await connection.execute(statement)}
    absent = [id_ for id_ in ids if id_ not in hashes]
    if absent:
        raise ResourceNotFound(f"Archive {absent[0]} not found", hint="upload the files again: apply once more")
    found = tuple(FileArchiveMapping(id=a.id, path=a.path, hash=hashes[a.id]) for a in spec.file_archives)
    return spec.model_copy(update={"file_archives": found})


async def _check_changes(connection: AsyncConnection, project_id: str, spec: RunSpec) -> None:
    """Raises ResourceNotFound for local changes that nobody uploaded for this repository of the project.

    Uploads of all projects lie side by side by their hashes: a hash alone would name another project's.
    """
    brought = repository(spec)
    if brought is None or brought.code_hash is None:
        return
    t = repo_code.c
    own = (t.project_id == project_id, t.repo_id == brought.id, t.hash == brought.code_hash)
    if (await connection.execute(select(t.hash).where(*own))).first() is None:
        raise ResourceNotFound(
            f"The local changes of repo {brought.id} are not on the server", hint="upload them again: apply once more"
        )
