"""How decisions word what they did: event sentences and their targets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dstack.model.event import EventTarget
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.model.orphan import Orphan
from dstack.model.row import Row
from dstack.model.run import Run


def target(row: Row) -> EventTarget:
    """What an event about this row is filed under."""
    match row:
        case Job():
            return EventTarget("job", row.id, row.spec.name)
        case Run() | Fleet() | Instance():
            return EventTarget(row.kind, row.id, row.name)
        case Orphan():
            return EventTarget("instance", row.id, row.instance_name or row.backend_id)
        case _:
            return EventTarget(row.kind, row.id, row.kind)


def status_changed(row: Row, new: Any, reason: Any = None, message: str | None = None) -> str:
    """`Job status changed SUBMITTED -> TERMINATING. Termination reason: X (MESSAGE)`."""
    text = f"{row.kind.capitalize()} status changed {str(row.status).upper()} -> {str(new).upper()}"
    if reason is not None:
        text += f". Termination reason: {str(reason).upper()}"
        if message:
            text += f" ({message})"
    return text


def price(dollars: float) -> str:
    """`$0.5`, `$1`: four decimals, zeros trimmed."""
    return "$" + (f"{dollars:.4f}".rstrip("0").rstrip("."))


def size(mib: float) -> str:
    """`72GB`, `0.5GB`."""
    return f"{mib / 1024:.1f}".rstrip("0").rstrip(".") + "GB"


def some(names: Any, limit: int = 3) -> str:
    """`a, b, c and 4 more`."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def unknown_tasks(count: int) -> str:
    """`runs 2 tasks that no job of this server answers for`."""
    return f"runs {'a task' if count == 1 else f'{count} tasks'} that no job of this server answers for"


def node(job: Job) -> str:
    """`node 1 (train-1-0)`: one of several."""
    return f"node {job.job_num} ({job.spec.name})"


def moment(at: float) -> str:
    """`2026-11-22 08:00 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """`10m`, `1h 30m`, `45s`."""
    whole = int(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    return " ".join(f"{n}{unit}" for n, unit in parts if n) or "0s"
