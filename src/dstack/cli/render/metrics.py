"""The table of `dstack metrics`: bars over the last hour, and the newest value beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dstack.cli.render import values
from dstack.cli.render.table import table

Json = dict[str, Any]

HEADERS = ("NAME", "UTILIZATION", "MEMORY")
BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 20
HOUR_S = 3600.0
BYTES_PER_MIB = 1048576
NO_DATA = "no data"


def metrics_table(jobs: Sequence[Json], width: int | None = None) -> str:
    """A row for the processors and one for each GPU of each job."""
    replicas = len({job["replica_num"] for job in jobs}) > 1
    rows = [row for job in jobs for row in _rows(job, replicas)]
    return table(HEADERS, rows, width)


def sparkline(numbers: Sequence[float], top: float, columns: int = COLUMNS) -> str:
    """Bars from the oldest to the newest, each the mean of its share of the numbers; `top` is a full bar."""
    if not numbers or top <= 0:
        return ""
    count = min(columns, len(numbers))
    bounds = [index * len(numbers) // count for index in range(count + 1)]
    means = [sum(numbers[a:b]) / (b - a) for a, b in pairwise(bounds)]
    return "".join(BARS[max(0, min(len(BARS) - 1, int(mean / top * len(BARS))))] for mean in means)


def _rows(job: Json, replicas: bool) -> list[tuple[str, ...]]:
    label = f"replica={job['replica_num']} job={job['job_num']}" if replicas else f"job={job['job_num']}"
    series = {item["name"]: _last_hour(item) for item in job["metrics"]}
    has = job["resources"]
    cores = (series.get("cpus_detected_num") or [0])[-1] or has.get("cpus") or 0
    memory = (series.get("memory_total_bytes") or [0])[-1] or (has.get("memory_mib") or 0) * BYTES_PER_MIB
    used = series.get("memory_working_set_bytes") or series.get("memory_usage_bytes") or []
    percents = [number / cores if cores else number for number in series.get("cpu_usage_percent") or []]
    rows = [(f"{label}  cpu", _percent(percents), _size(used, memory))]
    gpus = max([len(has.get("gpus") or []), *(int(n) for n in series.get("gpus_detected_num") or [])], default=0)
    for number in range(gpus):
        total = _gpu_memory(has, number) or (series.get("gpu_memory_total_bytes") or [0])[-1]
        name = f"{' ' * len(label)}  gpu={number}"
        load = series.get(f"gpu_util_percent_gpu{number}") or []
        rows.append((name, _percent(load), _size(series.get(f"gpu_memory_usage_bytes_gpu{number}") or [], total)))
    return rows


def _last_hour(series: Json) -> list[float]:
    """Oldest first; the server sends the newest first."""
    stamped = [
        (values.instant(at) or 0.0, float(number))
        for at, number in zip(series["timestamps"], series["values"], strict=False)
    ]
    newest = max((at for at, _ in stamped), default=0.0)
    return [number for at, number in sorted(stamped) if at >= newest - HOUR_S]


def _percent(numbers: Sequence[float]) -> str:
    return f"{sparkline(numbers, 100.0)} {numbers[-1]:.0f}%" if numbers else NO_DATA


def _size(numbers: Sequence[float], total: float) -> str:
    if not numbers:
        return NO_DATA
    shown = values.memory(numbers[-1] / BYTES_PER_MIB)
    return f"{sparkline(numbers, total)} {shown}/{values.memory(total / BYTES_PER_MIB)}" if total else shown


def _gpu_memory(resources: Json, number: int) -> float:
    gpus = resources.get("gpus") or []
    return (gpus[number].get("memory_mib") or 0) * BYTES_PER_MIB if number < len(gpus) else 0
