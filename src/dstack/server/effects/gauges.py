"""Progress and metrics of running jobs: overwritten or appended beside the versioned rows, which they never touch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.agentapi.wire import TaskMetrics, TaskReport, to_json
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.tables import job_gauge, job_metric
from dstack.server.store.together import Together

SKEW_S = 60.0  # a host's clock that is further off is not believed


class Gauges:
    def __init__(self, database: Database, changes: Changes):
        self._database = database
        self._changes = changes
        self._samples = Together[list[dict[str, Any]], None](database, _store_samples)

    async def pulling(self, reports: Sequence[TaskReport], now: float) -> None:
        """Store how far the image pulls of these tasks are."""
        if not reports:
            return
        insert = sqlite_insert if self._database.sqlite else pg_insert
        async with self._database.write() as connection:
            for report in reports:
                values = {"pull": json.dumps(to_json(report.pull)), "updated_at": now}
                statement = insert(job_gauge).values(job_id=report.id, **values)
                await connection.execute(statement.on_conflict_do_update(index_elements=["job_id"], set_=values))
        self._changes.publish([f"job:{r.id}" for r in reports])

    async def sampled(self, samples: Sequence[tuple[str, TaskMetrics]], now: float) -> None:
        """Append metrics that were just measured; retention deletes the old ones, by the clock of the server."""
        if not samples:
            return
        rows = [{"job_id": job_id, "at": _at(m, now), "sample": json.dumps(to_json(m))} for job_id, m in samples]
        await self._samples.put(rows)


def _at(sample: TaskMetrics, now: float) -> float:
    return sample.at if abs(sample.at - now) <= SKEW_S else now


async def _store_samples(connection: AsyncConnection, some: Sequence[list[dict[str, Any]]]) -> list[None]:
    insert = sqlite_insert if connection.dialect.name == "sqlite" else pg_insert
    rows = [row for of_host in some for row in of_host]
    await connection.execute(insert(job_metric).on_conflict_do_nothing(), rows)
    return [None for _ in some]
