"""One host's link: connect, tell what was found, follow changes and logs, notice when it is lost.

Whatever it writes is refused once another server holds the host; then it ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sqlalchemy import bindparam, select

from dstack.agentapi.client import AgentClient, AgentRefused, AgentUnreachable, Connect
from dstack.agentapi.wire import ENDED, PENDING, RUNNING, STOPPING, EventsPage, HostFacts, StopRequest, TaskReport
from dstack.clock import Clock
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.model.observation import LinkDown, LinkUp, TaskLost, TaskReported
from dstack.model.row import Ref
from dstack.server.effects.gauges import Gauges
from dstack.server.effects.log_pull import LogPull
from dstack.server.effects.reports import host_health, host_info, reported
from dstack.server.effects.unknown_tasks import live, unknown
from dstack.server.journal import about
from dstack.server.logs.files import LogStore
from dstack.server.store.acts import Seen
from dstack.server.store.host_links import Hold, StaleHold
from dstack.server.store.store import Store
from dstack.server.store.tables import TABLES, act
from dstack.server.store.trouble import complain

log = logging.getLogger(__name__)
POLL_S = 25.0
METRICS_EVERY_S = 10.0
FIRST_RETRY_S, MAX_RETRY_S = 0.2, 30.0
REMOVE = "remove_task"
TROUBLE_RETRY_S = 2.0  # while it is our database that cannot be used

_JOB = TABLES["job"].c
_EXPECTED = select(_JOB.id).where(
    _JOB.instance_id == bindparam("instance"), _JOB.task_started, _JOB.status.not_in(sorted(Job.terminal_statuses()))
)
_PLACED = select(_JOB.id, _JOB.status).where(
    _JOB.id.in_(bindparam("ids", expanding=True)), _JOB.instance_id == bindparam("instance")
)


class HostLink:
    """`client` is None while the host cannot be reached. `pace_s`: it is not asked anew more often without need."""

    def __init__(
        self,
        instance: Instance,
        hold: Hold,
        connect: Callable[[Instance], Awaitable[Connect]],
        store: Store,
        logs: LogStore,
        gauges: Gauges,
        clock: Clock,
        kick_engine: Callable[[], None],
        kick_acts: Callable[[], None],
        pace_s: Callable[[], float] = lambda: 0.0,
    ):
        self.client: AgentClient | None = None
        self.hold = hold
        self._instance = instance
        self._connect = connect
        self._store = store
        self._logs = logs
        self._gauges = gauges
        self._clock = clock
        self._kick_engine = kick_engine
        self._kick_acts = kick_acts
        self._pace_s = pace_s
        self._told: dict[str, TaskReported] = {}
        self._ours: set[str] = set()
        self._unknown: set[str] = set()  # tasks that have not ended and that no job answers for
        self._tasks: dict[str, TaskReport] = {}
        self._pulls: dict[str, LogPull] = {}
        self._group: asyncio.TaskGroup | None = None
        self._up = instance.unreachable_since is None and instance.linked

    @property
    def movable(self) -> bool:
        """Other servers reach the host, too."""
        return self._instance.offer.server_id is None

    async def run(self) -> None:
        """Keep the link until cancelled or another server has the host; every loss is told once, every return too."""
        delay = FIRST_RETRY_S
        try:
            while True:
                lost = await self._until_lost()
                await self._close()
                if self._up and lost is not None and await self._tell_lost(lost):
                    delay = FIRST_RETRY_S
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                trouble = self._store.database.trouble.words is not None
                delay = min(delay * 2, TROUBLE_RETRY_S if trouble else MAX_RETRY_S)
        except StaleHold:
            log.info("%s is linked by another server now", self._instance.name)
        finally:
            await self._close()

    async def _until_lost(self) -> str | None:
        """Be linked; the words in which the host was lost, None when it was our own fault that the link broke.

        Raises StaleHold.
        """
        lost: str | None = None
        stale: str | None = None
        try:
            await self._linked()
        except* StaleHold as late:
            stale = _first(late)
        except* (AgentUnreachable, AgentRefused) as unreachable:
            lost = _first(unreachable)
        except* Exception:
            complain(log, "the link to %s broke; connecting again", self._instance.name)
        if stale is not None:
            raise StaleHold(stale)
        return lost

    async def _tell_lost(self, message: str) -> bool:
        try:
            await self._observe([(self._instance.ref, LinkDown(message=message))])
        except StaleHold:
            raise
        except Exception:
            # E.g. the server's disk is full. The other links and the server live on; it is told after the next try.
            complain(log, "that %s was lost could not be recorded; trying again", self._instance.name)
            return False
        self._up = False
        return True

    def follow(self, report: TaskReport) -> None:
        """Store the log of this task from now on."""
        self._tasks[report.id] = report
        if report.state == PENDING or report.id in self._pulls or self._group is None or self.client is None:
            return
        pull = LogPull(self._instance.project_id, report.id, self.client, self._logs, self.hold, self._pace_s)
        pulling = pull.run()
        try:
            with about(job=report.id):
                pull.task = self._group.create_task(pulling)
        except RuntimeError:  # the link has just broken: the group lets nobody in, and is about to be closed
            pulling.close()
            return
        self._pulls[report.id] = pull

    def forget(self, job_id: str) -> None:
        self._tasks.pop(job_id, None)
        self._told.pop(job_id, None)
        self._ours.discard(job_id)
        pull = self._pulls.pop(job_id, None)
        if pull is not None and pull.task is not None:
            pull.task.cancel()

    async def drain(self, job: Job) -> int:
        """Wait until the log is stored to its end; its size in bytes."""
        if job.id not in self._pulls:
            if self.client is None:
                raise AgentUnreachable("not connected")
            self.follow(TaskReport(id=job.id, state=RUNNING))
        pull = self._pulls.get(job.id)
        if pull is None:
            raise AgentUnreachable("not connected")
        return await pull.drained()

    async def _linked(self) -> None:
        client = AgentClient(await self._connect(self._instance))
        try:
            facts = await client.host()
        except BaseException:
            await client.aclose()
            raise
        self.client = client
        async with _heeding() as group:
            self._group = group
            page = await self._meet(client, facts)
            group.create_task(self._sample(client))
            while True:
                run, page = page.run, await client.events(page.run, page.seq, max(POLL_S, self._pace_s()))
                if page.run != run:  # the agent began anew: the host was rebooted, or wiped and set up again
                    page = await self._meet(client, await client.host())
                    continue
                await self._hear(client, page)

    async def _hear(self, client: AgentClient, page: EventsPage) -> None:
        """Tell what has changed."""
        unknown_before = len(self._unknown)
        ours, over = await self._sort(page.tasks)
        also: list[Seen] = [(self._instance.ref, host_health(page.health))] if page.health else []
        if len(self._unknown) != unknown_before:
            also.append((self._instance.ref, self._up_with(await client.host())))
        free = unknown_before > 0 and not self._unknown
        await self._tell(ours, also, anew=free)
        if free:
            self._kick_acts()
        await self._clean(over)

    async def _meet(self, client: AgentClient, facts: HostFacts) -> EventsPage:
        """Tell that the host is there, and all of its tasks; answers where to go on listening."""
        # Asked for before the host is: a task accepted in between is in the answer, and not taken for lost.
        expected = await self._expected()
        page = await client.events("", 0, 0.0)
        await self._resume(facts, page.tasks, expected)
        return page

    def _up_with(self, facts: HostFacts) -> LinkUp:
        return LinkUp(host=host_info(facts, len(self._unknown)))

    async def _resume(self, facts: HostFacts, tasks: list[TaskReport], expected: list[Ref]) -> None:
        """The link is up: tell so, tell every task's state, and which tasks the host should have but has not."""
        self._told.clear()
        self._ours.clear()
        self._unknown.clear()
        ours, over = await self._sort(tasks)
        present = {t.id for t in tasks}
        lost = [(ref, TaskLost()) for ref in expected if ref.id not in present]
        await self._tell(ours, [(self._instance.ref, self._up_with(facts)), *lost], anew=True)
        self._up = True
        self._kick_acts()
        await self._clean(over)

    async def _sort(self, reports: list[TaskReport]) -> tuple[list[TaskReport], set[str]]:
        """Reports of jobs that were placed on this host; and which of its tasks are over for us and nobody is about to
        remove: their end was not confirmed while the host could not be reached.

        A host is not believed about the jobs of others. Tasks of jobs that we do not know at all are not ours to kill:
        the database may be an old backup. They are remembered while they have not ended.
        """
        fresh = {r.id for r in reports} - self._ours
        statuses = await self._placed(fresh) if fresh else {}
        self._unknown -= fresh
        self._unknown |= await unknown(self._store.database, live(reports) & fresh - statuses.keys())
        ended = {job_id for job_id, status in statuses.items() if status in Job.terminal_statuses()}
        self._ours |= statuses.keys() - ended
        # An act that removes a task stores the rest of its log before.
        over = ended - await self._being_removed(ended) if ended else ended
        return [r for r in reports if r.id in self._ours], over

    async def _tell(self, reports: list[TaskReport], also: list[Seen] | None = None, *, anew: bool = False) -> None:
        seen: list[Seen] = list(also or [])
        for report in reports:
            self.follow(report)
            news = reported(report)
            if news is not None and self._told.get(report.id) != news:
                self._told[report.id] = news
                seen.append((Ref("job", report.id), news))
        if seen:
            await self._observe(seen, anew=anew)
        await self._gauges.pulling([r for r in reports if r.pull is not None], self._clock.now())

    async def _observe(self, seen: list[Seen], *, anew: bool = False) -> None:
        hasten = self._instance.id if anew else None
        await self._store.observe(seen, self._clock.now(), self.hold, hasten)
        self._kick_engine()

    async def _expected(self) -> list[Ref]:
        """Jobs whose task this host accepted and that are not over."""
        async with self._store.database.read_aside() as connection:
            found = await connection.execute(_EXPECTED, {"instance": self._instance.id})
            return [Ref("job", id_) for id_ in found.scalars()]

    async def _placed(self, job_ids: set[str]) -> dict[str, str]:
        """Status by id, of those that were placed on this instance."""
        async with self._store.database.read_aside() as connection:
            found = await connection.execute(_PLACED, {"ids": sorted(job_ids), "instance": self._instance.id})
            return {row.id: row.status for row in found}

    async def _being_removed(self, job_ids: set[str]) -> set[str]:
        """Those for which an act is recorded that stores the log to its end and removes the task."""
        acts = (act.c.kind == Job.kind, act.c.verb == REMOVE, act.c.resource_id.in_(job_ids))
        async with self._store.database.read_aside() as connection:
            return set((await connection.execute(select(act.c.resource_id).where(*acts))).scalars())

    async def _clean(self, task_ids: set[str]) -> None:
        """Have the host end and forget these tasks. One that takes its time to end is removed when it tells its end."""
        for task_id in sorted(task_ids):
            if self.client is None:
                return
            try:
                await self.client.stop(task_id, StopRequest(grace_s=0.0))
                await self.client.delete(task_id, 0, force=True)
                log.warning("task %s still was on %s after its job had ended; removed", task_id, self._instance.name)
            except AgentRefused as e:
                log.warning("task %s still is on %s after its job had ended: %s", task_id, self._instance.name, e)

    async def _sample(self, client: AgentClient) -> None:
        """Metrics are samples by nature: the one thing here that is asked for again and again."""
        while True:
            await asyncio.sleep(max(METRICS_EVERY_S, self._pace_s()))
            running = [t.id for t in self._tasks.values() if t.state in (RUNNING, STOPPING)]
            samples = []
            for job_id in running:
                try:
                    samples.append((job_id, await client.metrics(job_id)))
                except (AgentRefused, AgentUnreachable):
                    continue  # it ended meanwhile, or is slow to measure; whether the host lives, the long poll says
            await self._gauges.sampled(samples, self._clock.now())

    async def _close(self) -> None:
        client, self.client, self._group = self.client, None, None
        self._pulls.clear()
        self._tasks = {k: t for k, t in self._tasks.items() if t.state not in ENDED}
        if client is not None:
            await client.aclose()


@asynccontextmanager
async def _heeding() -> AsyncIterator[asyncio.TaskGroup]:
    """A group that passes on a cancellation which comes while it ends with errors.

    CPython's own drops it before 3.13 (https://github.com/python/cpython/issues/116720): whoever closes the link would
    wait for ever.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup:
        if task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise


def _first(group: BaseExceptionGroup) -> str:
    """The words of the first error inside."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else str(inner)
