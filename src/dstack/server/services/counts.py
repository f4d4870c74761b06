"""Numbers of this server in Prometheus' text format: what it counted, and what stands in the database just now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.instance import InstanceStatus
from dstack.model.job import JobStatus
from dstack.model.orphan import OrphanStatus
from dstack.server.parts import Parts
from dstack.server.services.usage import usage
from dstack.server.store.tables import TABLES, act, inbox, project, user

_KINDS = ("run", "job", "fleet", "instance")


async def exposition(parts: Parts) -> bytes:
    """Everything. Deleted runs are left out."""
    now = parts.clock.now()
    async with parts.database.read() as connection:
        names = {id_: name for id_, name in await connection.execute(select(project.c.id, project.c.name))}
        families = [
            *[await _by_status(connection, kind, names) for kind in _KINDS],
            await _users(connection),
            *await _engine(connection, now),
            *await _acts(connection, now),
            *await _waiting(connection, names),
            await _links(connection),
            await _orphans(connection),
            *await usage(connection, names, now),
        ]
    slow = "since when the longest of those that the database keeps waiting for seconds waits"
    families.append(family("dstack_database_wait_seconds", slow, (), [((), parts.database.slowness.waited_s())]))
    registry = CollectorRegistry()
    registry.register(_Now(families))
    # Tens of thousands of lines where there are as many jobs: beside the loop, which others need.
    return await asyncio.to_thread(lambda: generate_latest(parts.meter.registry) + generate_latest(registry))


class _Now(Collector):
    """Families that were read already."""

    def __init__(self, families: Sequence[GaugeMetricFamily]):
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._families


async def _by_status(connection: AsyncConnection, kind: str, names: dict[str, str]) -> GaugeMetricFamily:
    t = TABLES[kind]
    statement = select(t.c.project_id, t.c.status, func.count()).group_by(t.c.project_id, t.c.status)
    if kind == "run":
        statement = statement.where(t.c.deleted.is_(False))
    rows: list[tuple[Any, ...]] = sorted(tuple(row) for row in await connection.execute(statement))
    labelled = (((names.get(project_id, ""), status), count) for project_id, status, count in rows)
    return family(f"dstack_{kind}s", f"{kind}s by status", ("project_name", "status"), labelled)


async def _users(connection: AsyncConnection) -> GaugeMetricFamily:
    count = (await connection.execute(select(func.count()).select_from(user))).scalar()
    return family("dstack_users", "users", (), [((), count or 0)])


async def _engine(connection: AsyncConnection, now: float) -> list[GaugeMetricFamily]:
    """How late the engine is: since when the longest waiting row is due that nobody has taken."""
    free = [
        select(t.c.due_at.label("at")).where(t.c.due_at <= now, or_(t.c.claim_until.is_(None), t.c.claim_until <= now))
        for t in TABLES.values()
    ]
    due = union_all(*free).subquery()
    count, first = (await connection.execute(select(func.count(), func.min(due.c.at)))).one()
    unread = (await connection.execute(select(func.count()).select_from(inbox))).scalar()
    return [
        family("dstack_engine_due", "resources that are due and not taken", (), [((), count)]),
        family("dstack_engine_due_lag_seconds", "since when the first of them is", (), [((), _age(now, first))]),
        family("dstack_engine_inbox", "observations that no decision has heard yet", (), [((), unread or 0)]),
    ]


async def _acts(connection: AsyncConnection, now: float) -> list[GaugeMetricFamily]:
    """Unfinished acts by verb and state: running, waiting for the first try, or retrying."""
    running = (act.c.claim_until > now).label("running")
    tried = (act.c.attempts > 0).label("tried")
    statement = select(act.c.verb, running, tried, func.count(), func.min(act.c.created_at))
    counts: dict[tuple[str, str], int] = {}
    ages: dict[tuple[str], float] = {}
    for verb, is_running, was_tried, count, first in await connection.execute(
        statement.group_by(act.c.verb, running, tried)
    ):
        state = "running" if is_running else "retrying" if was_tried else "waiting"
        counts[verb, state] = counts.get((verb, state), 0) + count
        ages[(verb,)] = max(ages.get((verb,), 0.0), _age(now, first))
    return [
        family("dstack_acts", "unfinished acts", ("verb", "state"), sorted(counts.items())),
        family("dstack_act_oldest_seconds", "age of the oldest one", ("verb",), sorted(ages.items())),
    ]


async def _waiting(connection: AsyncConnection, names: dict[str, str]) -> list[GaugeMetricFamily]:
    job = TABLES["job"]
    statement = select(job.c.project_id, func.count()).where(job.c.status == JobStatus.SUBMITTED)
    counts = {id_: count for id_, count in await connection.execute(statement.group_by(job.c.project_id))}
    rows = sorted(((name,), counts.get(id_, 0)) for id_, name in names.items())
    return [family("dstack_queue_length", "jobs that wait for a place", ("project_name",), rows)]


async def _links(connection: AsyncConnection) -> GaugeMetricFamily:
    instance = TABLES["instance"]
    made = (instance.c.data.is_not(None), instance.c.status != InstanceStatus.TERMINATED)
    statement = select(instance.c.linked, func.count()).where(*made).group_by(instance.c.linked)
    counts = {bool(linked): count for linked, count in await connection.execute(statement)}
    rows = [(("up",), counts.get(True, 0)), (("down",), counts.get(False, 0))]
    return family("dstack_host_links", "hosts by whether their agent answers", ("state",), rows)


async def _orphans(connection: AsyncConnection) -> GaugeMetricFamily:
    orphan = TABLES["orphan"]
    statement = select(orphan.c.status, func.count()).group_by(orphan.c.status)
    counts = {status: count for status, count in await connection.execute(statement)}
    shown = (OrphanStatus.QUARANTINED, OrphanStatus.TERMINATING)
    rows = [((str(status),), counts.get(str(status), 0)) for status in shown]
    return family("dstack_orphans", "machines that no instance answers for", ("status",), rows)


def family(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    """A gauge with a value for each set of labels."""
    made = GaugeMetricFamily(name, text, labels=list(labels))
    for values, value in rows:
        made.add_metric(list(values), value)
    return made


def _age(now: float, first: float | None) -> float:
    return 0.0 if first is None else max(0.0, now - first)
