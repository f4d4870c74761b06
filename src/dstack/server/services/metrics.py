"""Metrics of jobs: the stored samples of a submission as the public API names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select

from dstack.errors import ResourceNotFound
from dstack.model.job import Job
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.rows import fetch
from dstack.server.services.runs.reading import RunKey, absent_run, find_run
from dstack.server.services.wire.values import stamp
from dstack.server.store.tables import TABLES, job_metric

MIB = 1024 * 1024


async def of_job(
    parts: Parts,
    access: Access,
    key: RunKey,
    replica_num: int,
    job_num: int,
    limit: int,
    after: float | None,
    before: float | None,
) -> dict[str, Any]:
    """Samples of the newest submission, newest first. Raises ResourceNotFound."""
    job_t = TABLES["job"]
    async with parts.database.read() as connection:
        run = await find_run(connection, access.project.id, key)
        if run is None:
            raise absent_run(key)
        numbered = (job_t.c.run_id == run.id, job_t.c.replica_num == replica_num, job_t.c.job_num == job_num)
        jobs = await fetch(connection, Job, *numbered, order=(job_t.c.submission_num.desc(),), limit=1)
        if not jobs:
            raise ResourceNotFound(f"Run {run.name} has no job matching replica={replica_num} job={job_num}")
        statement = select(job_metric.c.at, job_metric.c.sample).where(job_metric.c.job_id == jobs[0].id)
        if after is not None:
            statement = statement.where(job_metric.c.at > after)
        if before is not None:
            statement = statement.where(job_metric.c.at < before)
        # One more than asked for: the processor's load is a difference to the sample before.
        rows = await connection.execute(statement.order_by(job_metric.c.at.desc()).limit(limit + 1))
        samples = [(at, json.loads(text)) for at, text in rows]
    return {"metrics": _metrics(samples, limit, jobs[0])}


def _metrics(samples: Sequence[tuple[float, dict[str, Any]]], limit: int, job: Job) -> list[dict[str, Any]]:
    shown = samples[:limit]
    if not shown:
        return []
    times = [stamp(at) for at, _ in shown]
    resources = job.place.offer.resources if job.place else None
    gpus = max(len(sample.get("gpus", [])) for _, sample in shown)

    def metric(name: str, value: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        return {"name": name, "timestamps": times, "values": [value(sample) for _, sample in shown]}

    found = [
        {"name": "cpu_usage_percent", "timestamps": times, "values": _cpu_percents(samples, len(shown), job)},
        metric("memory_usage_bytes", lambda sample: sample.get("memory_bytes", 0)),
        metric("memory_working_set_bytes", lambda sample: sample.get("memory_working_set_bytes", 0)),
        metric("gpus_detected_num", lambda sample: len(sample.get("gpus", []))),
    ]
    if resources is not None:
        found.append(metric("cpus_detected_num", lambda _: resources.cpus))
        found.append(metric("memory_total_bytes", lambda _: resources.memory_mib * MIB))
        if resources.gpus:
            found.append(metric("gpu_memory_total_bytes", lambda _: resources.gpus[0].memory_mib * MIB))
    for n in range(gpus):
        found.append(metric(f"gpu_memory_usage_bytes_gpu{n}", lambda sample, n=n: _gpu(sample, n, "memory_bytes")))
        found.append(metric(f"gpu_util_percent_gpu{n}", lambda sample, n=n: _gpu(sample, n, "util_percent")))
    return found


def _cpu_percents(samples: Sequence[tuple[float, dict[str, Any]]], count: int, job: Job) -> list[int]:
    """100 is one core, busy all the time since the sample before; the first one counts from the job's start."""
    percents = []
    for n in range(count):
        at, sample = samples[n]
        start: tuple[float, dict[str, Any]] = (at if job.running_since is None else job.running_since, {})
        earlier_at, earlier = samples[n + 1] if n + 1 < len(samples) else start
        used_s = (sample.get("cpu_usage_us", 0) - earlier.get("cpu_usage_us", 0)) / 1e6
        percents.append(max(0, round(100 * used_s / max(at - earlier_at, 1e-3))))
    return percents


def _gpu(sample: dict[str, Any], number: int, field: str) -> int:
    gpus = sample.get("gpus", [])
    return gpus[number].get(field, 0) if number < len(gpus) else 0
