"""Snapshots of claimed rows, loaded set by set: a batch costs the same number of statements as one row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.job.gang import waits_for_gang
from dstack.control.kernel import Pending, Received
from dstack.control.snapshots import (
    ChoreSnapshot,
    FleetSnapshot,
    InstanceSnapshot,
    JobSnapshot,
    OrphanSnapshot,
    QueueSnapshot,
    RunSnapshot,
    Snapshot,
)
from dstack.model.chore import Chore
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import Job, JobStatus
from dstack.model.observation import observation_adapter
from dstack.model.offer import Offer
from dstack.model.orphan import Orphan
from dstack.model.queue import Queue
from dstack.model.row import Ref, Row
from dstack.model.run import Run
from dstack.server.store.kept import Kept
from dstack.server.store.tables import TABLES, act, inbox

R = TypeVar("R", bound=Row)
# All offers that the backends of a project have now. Raises nothing: a backend that fails contributes none.
Gang = tuple[str, int, int]  # run, replica, submission
OffersOf = Callable[[str], Awaitable[tuple[Offer, ...]]]


class Loader:
    """Loads snapshots within one read transaction; offers, which are facts from outside, come from `offers_of`.

    `kept`: rows of the same database.
    """

    def __init__(self, connection: AsyncConnection, offers_of: OffersOf, kept: Kept):
        self._connection = connection
        self._offers_of = offers_of
        self._kept = kept

    async def load(self, refs: Sequence[Ref]) -> dict[Ref, Snapshot]:
        """Snapshots by ref; a row that is gone is absent."""
        by_kind: dict[str, list[str]] = defaultdict(list)
        for ref in refs:
            by_kind[ref.kind].append(ref.id)
        result: dict[Ref, Snapshot] = {}
        for kind, ids in by_kind.items():
            pending = await self._pending(kind, ids)
            received = await self._inbox(kind, ids)
            snapshots = await getattr(self, f"_{kind}s")(ids, pending, received)
            result.update({Ref(kind, id_): snapshot for id_, snapshot in snapshots.items()})
        return result

    async def rows(self, cls: type[R], condition: Any) -> list[R]:
        """All rows of `cls` that meet a SQL condition over its table."""
        found = await self._connection.execute(select(TABLES[cls.kind]).where(condition))
        return [self._kept.decoded(cls, m) for m in found.mappings()]

    async def many(self, cls: type[R], condition: Any) -> list[R]:
        """The same, where most of them are likely to be as they were the last time."""
        return await self._kept.rows(self._connection, cls, condition)

    async def _runs(self, ids: list[str], pending: Any, received: Any) -> dict[str, RunSnapshot]:
        runs = await self.rows(Run, TABLES["run"].c.id.in_(ids))
        jobs = _group(await newest_jobs(self._connection, ids, self._kept), "run_id")
        return {r.id: RunSnapshot(r, tuple(jobs[r.id]), pending[r.id], received[r.id]) for r in runs}

    async def _jobs(self, ids: list[str], pending: Any, received: Any) -> dict[str, JobSnapshot]:
        jobs = await self.rows(Job, TABLES["job"].c.id.in_(ids))
        instance_ids = {j.instance_id for j in jobs if j.instance_id}
        instances = {i.id: i for i in await self._by_id(Instance, instance_ids)}
        gangs = await self._gangs([j for j in jobs if waits_for_gang(j)])
        return {
            j.id: JobSnapshot(j, instances.get(j.instance_id or ""), pending[j.id], received[j.id], _others(j, gangs))
            for j in jobs
        }

    async def _gangs(self, jobs: Sequence[Job]) -> dict[Gang, tuple[Job, ...]]:
        """The submissions of these, by their numbers."""
        runs = sorted({j.run_id for j in jobs})
        gangs: dict[Gang, list[Job]] = defaultdict(list)
        for job in await self.many(Job, TABLES["job"].c.run_id.in_(runs)) if runs else ():
            gangs[_gang(job)].append(job)
        return {key: tuple(sorted(gang, key=lambda j: j.job_num)) for key, gang in gangs.items()}

    async def _instances(self, ids: list[str], pending: Any, received: Any) -> dict[str, InstanceSnapshot]:
        instances = await self.rows(Instance, TABLES["instance"].c.id.in_(ids))
        fleets = {f.id: f for f in await self._by_id(Fleet, {i.fleet_id for i in instances})}
        table = TABLES["job"]
        placed = await self.rows(Job, and_(table.c.instance_id.in_(ids), _live(Job)))
        jobs = _group(placed, "instance_id")
        return {
            i.id: InstanceSnapshot(i, fleets.get(i.fleet_id), tuple(jobs[i.id]), pending[i.id], received[i.id])
            for i in instances
        }

    async def _fleets(self, ids: list[str], pending: Any, received: Any) -> dict[str, FleetSnapshot]:
        fleets = await self.rows(Fleet, TABLES["fleet"].c.id.in_(ids))
        condition = and_(TABLES["instance"].c.fleet_id.in_(ids), _live(Instance))
        instances = _group(await self.many(Instance, condition), "fleet_id")
        offers = {p: await self._offers_of(p) for p in {f.project_id for f in fleets}}
        return {
            f.id: FleetSnapshot(f, tuple(instances[f.id]), offers[f.project_id], pending[f.id], received[f.id])
            for f in fleets
        }

    async def _queues(self, ids: list[str], pending: Any, received: Any) -> dict[str, QueueSnapshot]:
        queues = await self.rows(Queue, TABLES["queue"].c.id.in_(ids))
        result: dict[str, QueueSnapshot] = {}
        for queue in queues:
            table = TABLES["job"]
            waiting = and_(
                table.c.project_id == queue.project_id,
                table.c.status == JobStatus.SUBMITTED,
                table.c.stop_reason.is_(None),
            )
            jobs = await self.many(Job, waiting)
            # Nobody waits: what could be had does not matter.
            pool = await self.pool(queue.project_id) if jobs else ((), (), ())
            result[queue.id] = QueueSnapshot(queue, tuple(jobs), *pool, pending[queue.id], received[queue.id])
        return result

    async def _chores(self, ids: list[str], pending: Any, received: Any) -> dict[str, ChoreSnapshot]:
        chores = await self.rows(Chore, TABLES["chore"].c.id.in_(ids))
        t = TABLES["orphan"]
        # Chores differ: only a sweep has a backend.
        backends = sorted({c.backend for c in chores if c.backend})
        orphans = await self.rows(Orphan, and_(t.c.backend.in_(backends), _live(Orphan))) if backends else []
        return {
            c.id: ChoreSnapshot(
                c,
                tuple(o for o in orphans if (o.project_id, o.backend) == (c.project_id, c.backend)),
                pending[c.id],
                received[c.id],
            )
            for c in chores
        }

    async def _orphans(self, ids: list[str], pending: Any, received: Any) -> dict[str, OrphanSnapshot]:
        orphans = await self.rows(Orphan, TABLES["orphan"].c.id.in_(ids))
        return {o.id: OrphanSnapshot(o, pending[o.id], received[o.id]) for o in orphans}

    async def pool(self, project_id: str) -> tuple[tuple[Fleet, ...], tuple[Instance, ...], tuple[Offer, ...]]:
        """The fleets, the instances that are not terminal, and the offers of a project: what placement looks at."""
        fleets = await self.rows(Fleet, and_(TABLES["fleet"].c.project_id == project_id, _live(Fleet)))
        instances = await self.many(Instance, and_(TABLES["instance"].c.project_id == project_id, _live(Instance)))
        return tuple(fleets), tuple(instances), await self._offers_of(project_id)

    async def _by_id(self, cls: type[R], ids: Iterable[str]) -> list[R]:
        wanted = list(ids)
        return await self.rows(cls, TABLES[cls.kind].c.id.in_(wanted)) if wanted else []

    async def _pending(self, kind: str, ids: list[str]) -> Mapping[str, tuple[Pending, ...]]:
        found = await self._connection.execute(select(act).where(act.c.kind == kind, act.c.resource_id.in_(ids)))
        result: dict[str, tuple[Pending, ...]] = defaultdict(tuple)
        for m in found.mappings():
            one = Pending(m["verb"], m["token"], m["attempts"], m["created_at"], m["last_error"])
            result[m["resource_id"]] += (one,)
        return result

    async def _inbox(self, kind: str, ids: list[str]) -> Mapping[str, tuple[Received, ...]]:
        found = await self._connection.execute(
            select(inbox).where(inbox.c.kind == kind, inbox.c.resource_id.in_(ids)).order_by(inbox.c.id)
        )
        result: dict[str, tuple[Received, ...]] = defaultdict(tuple)
        for m in found.mappings():
            observation = observation_adapter.validate_json(m["observation"])
            result[m["resource_id"]] += (Received(m["id"], observation, m["at"]),)
        return result


async def newest_jobs(connection: AsyncConnection, run_ids: Sequence[str], kept: Kept) -> list[Job]:
    """The newest submission of each (replica, job number) of the runs, in that order."""
    job = TABLES["job"]
    newest = (
        select(job.c.run_id, job.c.replica_num, job.c.job_num, func.max(job.c.submission_num).label("submission_num"))
        .where(job.c.run_id.in_(run_ids))
        .group_by(job.c.run_id, job.c.replica_num, job.c.job_num)
        .subquery()
    )
    same = and_(*(job.c[name] == newest.c[name] for name in ("run_id", "replica_num", "job_num", "submission_num")))
    found = await connection.execute(
        select(job).join(newest, same).order_by(job.c.run_id, job.c.replica_num, job.c.job_num)
    )
    return [kept.decoded(Job, m) for m in found.mappings()]


def _gang(job: Job) -> Gang:
    return job.run_id, job.replica_num, job.submission_num


def _others(job: Job, gangs: Mapping[Gang, tuple[Job, ...]]) -> tuple[Job, ...]:
    """The other nodes of the job's submission, where it looks at them."""
    gang = gangs.get(_gang(job), ()) if waits_for_gang(job) else ()
    place = next((n for n, other in enumerate(gang) if other.id == job.id), len(gang))
    return gang[:place] + gang[place + 1 :]


def _live(cls: type[Row]) -> Any:
    return TABLES[cls.kind].c.status.not_in(sorted(cls.terminal_statuses()))


def _group(rows: Iterable[R], field: str) -> dict[str, list[R]]:
    grouped: dict[str, list[R]] = defaultdict(list)
    for row in rows:
        grouped[getattr(row, field)].append(row)
    return grouped
