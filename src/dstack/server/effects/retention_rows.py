"""What retention deletes in the database: events, metrics, runs with their jobs and logs, instances and fleets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, delete, exists, not_, select

from dstack.model.fleet import FleetStatus
from dstack.model.instance import InstanceStatus
from dstack.model.orphan import OrphanStatus
from dstack.model.run import Run
from dstack.server.logs.files import LogStore
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES, act, event, event_target, inbox, job_gauge, job_metric, log_offset

BATCH = 200
_run, _job, _instance, _fleet, _orphan = (TABLES[kind] for kind in ("run", "job", "instance", "fleet", "orphan"))


class RowRules:
    """Each deletes at most BATCH rows that are older than `before` and answers how many."""

    def __init__(self, database: Database, logs: LogStore):
        self._database = database
        self._logs = logs

    async def events(self, before: float) -> int:
        async with self._database.write() as connection:
            # By their number: the oldest are the first.
            old = select(event.c.seq, event.c.id).where(event.c.recorded_at < before).order_by(event.c.seq).limit(BATCH)
            rows = (await connection.execute(old)).all()
            if rows:
                await connection.execute(delete(event_target).where(event_target.c.event_id.in_([r.id for r in rows])))
                await connection.execute(delete(event).where(event.c.seq.in_([r.seq for r in rows])))
        return len(rows)

    async def metrics(self, before: float) -> int:
        key = (job_metric.c.job_id, job_metric.c.at)
        async with self._database.write() as connection:
            old = select(*key).where(job_metric.c.at < before).order_by(job_metric.c.at).limit(BATCH)
            rows = (await connection.execute(old)).all()
            if rows:
                newest = max(row.at for row in rows)
                ids = {row.job_id for row in rows}
                # Whole instants, of these jobs: some more than a batch may go, never something younger.
                await connection.execute(
                    delete(job_metric).where(job_metric.c.job_id.in_(ids), job_metric.c.at <= newest)
                )
        return len(rows)

    async def deleted_runs(self, before: float) -> int:
        return await self._runs(before, _run.c.deleted)

    async def runs(self, before: float) -> int:
        return await self._runs(before)

    async def logs(self, before: float) -> int:
        """Logs of jobs that ended long ago. The job stays, and its log is empty and at its end."""
        stored = select(_job.c.id, _job.c.project_id).join(log_offset, log_offset.c.job_id == _job.c.id)
        async with self._database.read() as connection:
            old = stored.where(_job.c.finished_at < before, log_offset.c.size > 0).limit(BATCH)
            rows = (await connection.execute(old)).all()
        for row in rows:
            await self._logs.delete(row.project_id, [row.id])
        return len(rows)

    async def instances(self, before: float) -> int:
        """Terminated ones that no job names any more."""
        named = exists().where(_job.c.instance_id == _instance.c.id)
        open_orphan = exists().where(_orphan.c.instance_id == _instance.c.id, _orphan.c.status != OrphanStatus.SETTLED)
        old = and_(_instance.c.status == InstanceStatus.TERMINATED, _instance.c.finished_at < before)
        return await self._rows("instance", old, not_(named), not_(open_orphan))

    async def fleets(self, before: float) -> int:
        """Terminated ones that no instance belongs to any more."""
        used = exists().where(_instance.c.fleet_id == _fleet.c.id)
        old = and_(_fleet.c.status == FleetStatus.TERMINATED, _fleet.c.finished_at < before)
        return await self._rows("fleet", old, not_(used))

    async def orphans(self, before: float) -> int:
        return await self._rows("orphan", _orphan.c.status == OrphanStatus.SETTLED, _orphan.c.settled_at < before)

    async def _runs(self, before: float, *conditions: Any) -> int:
        """Runs that are over, with everything of theirs. One with an act that is not over is left alone."""
        over = _run.c.status.in_(sorted(Run.terminal_statuses()))
        acting = exists().where(act.c.kind == "job", act.c.resource_id == _job.c.id)
        busy = exists().where(_job.c.run_id == _run.c.id, acting.correlate(_job))
        old = select(_run.c.id, _run.c.project_id).where(over, _run.c.finished_at < before, not_(busy), *conditions)
        async with self._database.read() as connection:
            runs = {row.id: row.project_id for row in await connection.execute(old.limit(BATCH))}
            of_runs = select(_job.c.id, _job.c.project_id).where(_job.c.run_id.in_(runs))
            jobs = (await connection.execute(of_runs)).all()
        for job in jobs:
            # The files first: were we to die in between, the rows would still tell of them.
            await self._logs.delete(job.project_id, [job.id])
        async with self._database.write() as connection:
            ids = [job.id for job in jobs]
            for table in (job_gauge, job_metric):
                await connection.execute(delete(table).where(table.c.job_id.in_(ids)))
            await connection.execute(delete(inbox).where(inbox.c.resource_id.in_([*ids, *runs])))
            await connection.execute(delete(_job).where(_job.c.id.in_(ids)))
            await connection.execute(delete(_run).where(_run.c.id.in_(list(runs))))
        return len(runs)

    async def _rows(self, kind: str, *conditions: Any) -> int:
        table = TABLES[kind]
        acting = exists().where(act.c.kind == kind, act.c.resource_id == table.c.id)
        async with self._database.write() as connection:
            found = await connection.execute(select(table.c.id).where(*conditions, not_(acting)).limit(BATCH))
            ids: Sequence[str] = found.scalars().all()
            if ids:
                await connection.execute(delete(inbox).where(inbox.c.kind == kind, inbox.c.resource_id.in_(ids)))
                await connection.execute(delete(table).where(table.c.id.in_(ids)))
        return len(ids)
