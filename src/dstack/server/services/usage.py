"""What instances and running jobs use and cost just now, as metrics of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.instance import InstanceStatus
from dstack.model.job import JobStatus
from dstack.server.store.rows import paged
from dstack.server.store.tables import TABLES, job_metric

_INSTANCE = ("dstack_project_name", "dstack_fleet_name", "dstack_instance_name", "dstack_backend", "dstack_gpu")
_JOB = ("dstack_project_name", "dstack_run_name", "dstack_job_name", "dstack_replica_num", "dstack_job_num")
Family = GaugeMetricFamily | CounterMetricFamily


async def usage(connection: AsyncConnection, names: Mapping[str, str], now: float) -> list[Family]:
    """`names` of projects by id."""
    return [*await _instances(connection, names, now), *await _jobs(connection, names, now)]


async def _instances(connection: AsyncConnection, names: Mapping[str, str], now: float) -> list[Family]:
    t = TABLES["instance"]
    seconds = CounterMetricFamily("dstack_instance_duration_seconds", "since it is paid for", labels=_INSTANCE)
    price = GaugeMetricFamily("dstack_instance_price_dollars_per_hour", "its price", labels=_INSTANCE)
    gpus = GaugeMetricFamily("dstack_instance_gpu_count", "its GPUs", labels=_INSTANCE)
    columns = (t.c.id, t.c.project_id, t.c.fleet_name, t.c.name, t.c.offer, t.c.started_at)
    async for row in paged(connection, t, columns, t.c.status != InstanceStatus.TERMINATED):
        offer = json.loads(row.offer)
        cards = offer["resources"].get("gpus") or []
        gpu = cards[0].get("name", "") if cards else ""
        labels = (names.get(row.project_id, ""), row.fleet_name, row.name, offer["backend"], gpu)
        price.add_metric(labels, offer["price"])
        gpus.add_metric(labels, len(cards))
        seconds.add_metric(labels, 0.0 if row.started_at is None else max(0.0, now - row.started_at))
    return [seconds, price, gpus]


async def _jobs(connection: AsyncConnection, names: Mapping[str, str], now: float) -> list[Family]:
    """Of jobs that run; what they use is what was measured last."""
    t = TABLES["job"]
    made = {
        "seconds": CounterMetricFamily("dstack_job_duration_seconds", "since it runs", labels=_JOB),
        "price": GaugeMetricFamily("dstack_job_price_dollars_per_hour", "of its share of the machine", labels=_JOB),
        "gpus": GaugeMetricFamily("dstack_job_gpu_count", "GPUs of its share", labels=_JOB),
        "cpu": CounterMetricFamily("dstack_job_cpu_time_seconds", "processor time", labels=_JOB),
        "memory": GaugeMetricFamily("dstack_job_memory_usage_bytes", "memory", labels=_JOB),
        "working_set": GaugeMetricFamily("dstack_job_memory_working_set_bytes", "memory in use", labels=_JOB),
        "gpu": GaugeMetricFamily("dstack_job_gpu_usage_ratio", "use of a GPU", labels=(*_JOB, "dstack_gpu_num")),
        "gpu_memory": GaugeMetricFamily(
            "dstack_job_gpu_memory_usage_bytes", "memory of a GPU", labels=(*_JOB, "dstack_gpu_num")
        ),
    }
    columns = (t.c.id, t.c.project_id, t.c.run_name, t.c.replica_num, t.c.job_num, t.c.place, t.c.running_since)
    samples = await _newest_samples(connection)
    async for row in paged(connection, t, columns, t.c.status == JobStatus.RUNNING):
        replica, number = str(row.replica_num), str(row.job_num)
        labels = (names.get(row.project_id, ""), row.run_name, f"{row.run_name}-{number}-{replica}", replica, number)
        made["seconds"].add_metric(labels, 0.0 if row.running_since is None else max(0.0, now - row.running_since))
        if row.place:
            _placed(made, labels, json.loads(row.place))
        if row.id in samples:
            _measured(made, labels, samples[row.id])
    return list(made.values())


def _placed(made: Mapping[str, Family], labels: Sequence[str], place: dict[str, Any]) -> None:
    share = place["blocks"] / max(place["total_blocks"], 1)
    made["price"].add_metric(labels, place["offer"]["price"] * share)
    made["gpus"].add_metric(labels, len(place["offer"]["resources"].get("gpus") or []) * share)


def _measured(made: Mapping[str, Family], labels: Sequence[str], sample: dict[str, Any]) -> None:
    made["cpu"].add_metric(labels, sample.get("cpu_usage_us", 0) / 1e6)
    made["memory"].add_metric(labels, sample.get("memory_bytes", 0))
    made["working_set"].add_metric(labels, sample.get("memory_working_set_bytes", 0))
    for number, gpu in enumerate(sample.get("gpus", [])):
        made["gpu"].add_metric((*labels, str(number)), gpu.get("util_percent", 0) / 100)
        made["gpu_memory"].add_metric((*labels, str(number)), gpu.get("memory_bytes", 0))


async def _newest_samples(connection: AsyncConnection) -> dict[str, dict[str, Any]]:
    running = select(TABLES["job"].c.id).where(TABLES["job"].c.status == JobStatus.RUNNING)
    newest = select(job_metric.c.job_id, func.max(job_metric.c.at).label("at")).where(job_metric.c.job_id.in_(running))
    found = newest.group_by(job_metric.c.job_id).subquery()
    same = and_(job_metric.c.job_id == found.c.job_id, job_metric.c.at == found.c.at)
    rows = await connection.execute(select(job_metric.c.job_id, job_metric.c.sample).join(found, same))
    return {row.job_id: json.loads(row.sample) for row in rows}
