"""Answers how long a job's GPUs have stood idle, from the samples that its host sent."""

from __future__ import annotations

import json

from sqlalchemy import select

from dstack.control.kernel import Probe
from dstack.control.policy.utilization import idle_s
from dstack.model.observation import GpusMeasured
from dstack.server.store.store import Store
from dstack.server.store.tables import job_metric

MOST = 1000  # samples: some more than the longest window has


class GpuUse:
    def __init__(self, store: Store):
        self._store = store

    async def measure(self, probe: Probe) -> None:
        """By the samples' own clock: that of a host may be wrong."""
        statement = select(job_metric.c.at, job_metric.c.sample).where(job_metric.c.job_id == probe.ref.id)
        async with self._store.database.read() as connection:
            found = await connection.execute(statement.order_by(job_metric.c.at.desc()).limit(MOST))
            rows = [(at, json.loads(sample)) for at, sample in found][::-1]
        samples = [(at, {gpu["uuid"]: gpu["util_percent"] for gpu in one.get("gpus", ())}) for at, one in rows]
        measured = GpusMeasured(idle_s=idle_s(samples, probe.payload["least_percent"]))
        await self._store.observe([(probe.ref, measured)], probe.payload["now"])
