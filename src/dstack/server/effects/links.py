"""Host links: one long poll a host brings every task's changes; logs are pulled, stored and only then acknowledged.

Several servers share the hosts: each takes its share of those that nobody holds, at once, and after a while whatever
still is left. Who holds more than its share gives some back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator

from dstack.agentapi.client import AgentClient, AgentUnreachable, Connect
from dstack.agentapi.wire import TaskReport
from dstack.backends.base import HostsAgent
from dstack.backends.errors import BackendError
from dstack.clock import Clock
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job
from dstack.model.row import Ref
from dstack.server.effects.gauges import Gauges
from dstack.server.effects.host_link import HostLink
from dstack.server.journal import about
from dstack.server.logs.files import LogStore
from dstack.server.services.backends import ProjectBackends
from dstack.server.store.host_links import Hold, Linkable
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable, complain

log = logging.getLogger(__name__)
RETRY_S = 1.0
# So many hosts are asked anew in a second while nothing happens: the more there are, the longer each of them waits.
ASKED_PER_S = 30.0
GIVEN_AT_ONCE = 8  # hosts that move to another server in one go


class HostLinks:
    """Keeps a link to every instance that has a machine and that this server holds; closes those of machines that are
    gone. `others`: the ids of the other servers that live."""

    def __init__(
        self,
        store: Store,
        owner: str,
        logs: LogStore,
        gauges: Gauges,
        clock: Clock,
        backends: ProjectBackends,
        kick_engine: Callable[[], None],
        kick_acts: Callable[[], None],
        others: Callable[[], tuple[str, ...]] = tuple,
    ):
        self._store = store
        self._owner = owner
        self._logs = logs
        self._gauges = gauges
        self._clock = clock
        self._backends = backends
        self._kick_engine = kick_engine
        self._kick_acts = kick_acts
        self._others = others
        self._links: dict[str, tuple[HostLink, asyncio.Task[None]]] = {}
        self._noticed: set[str] = set()
        self._look_for_free = True
        self._look_for_gone = False
        self._left_over = False
        self._loose: set[str] = set()  # may be this server's by the database's word, and have no link
        self._news = asyncio.Event()

    def notice(self, refs: Iterable[Ref]) -> None:
        """Rows were committed: instances among them may need a link, or none any more."""
        ids = {ref.id for ref in refs if ref.kind == "instance"}
        if ids:
            self._noticed |= ids
            self._news.set()

    def look(self) -> None:
        """There may be hosts that nobody holds."""
        self._look_for_free = True
        self._news.set()

    def look_at_all(self) -> None:
        """Whether machines went away may have been missed."""
        self._look_for_gone = True
        self.look()

    async def run(self) -> None:
        """Keep the links until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                noticed, self._noticed = self._noticed, set()
                free, self._look_for_free = self._look_for_free or bool(self._loose), False
                gone, self._look_for_gone = self._look_for_gone, False
                try:
                    if gone:
                        noticed.update(await self._store.gone_hosts(self._owner))
                    await self._let_go()
                    await self._update(group, noticed)
                    if free:
                        await self._update(group, None)
                except Exception:
                    complain(log, "host links could not be updated; trying again")
                    self._noticed |= noticed
                    self._look_for_free |= free
                    self._look_for_gone |= gone
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._news.wait()

    async def drop_all(self) -> None:
        """Close all links: others hold the hosts by now."""
        links = [link for link, _ in self._links.values()]
        await self._close(links)
        self.look()

    async def even_out(self) -> bool:
        """Give back hosts beyond this server's share; True when it did."""
        others = self._others()
        if not others or not self._links:
            return False
        counts = await self._store.link_counts()
        surplus = counts.get(self._owner, 0) - _share(sum(counts.values()), len(others))
        if surplus <= 0:
            return False
        movable = [link for link, _ in self._links.values() if link.movable]
        given = random.sample(movable, min(surplus, GIVEN_AT_ONCE, len(movable)))
        await self._close(given)
        with self._loose_unless_told(link.hold.instance_id for link in given):
            await self._store.give_back_links([link.hold for link in given])
        return bool(given)

    def pace_s(self) -> float:
        """The time in which each host may be asked once."""
        return len(self._links) / ASKED_PER_S

    def client(self, instance_id: str) -> AgentClient:
        """The agent of a linked instance. Raises AgentUnreachable while there is no link."""
        entry = self._links.get(instance_id)
        if entry is None or entry[0].client is None:
            raise AgentUnreachable("not connected")
        return entry[0].client

    def follow(self, instance_id: str, report: TaskReport) -> None:
        """A task was seen outside the long poll: store its log from now on."""
        if entry := self._links.get(instance_id):
            entry[0].follow(report)

    def forget(self, instance_id: str, job_id: str) -> None:
        if entry := self._links.get(instance_id):
            entry[0].forget(job_id)

    async def drain(self, instance_id: str, job: Job, timeout_s: float) -> int:
        """Wait until the job's log is stored to its end; its size in bytes.

        Raises AgentUnreachable, TimeoutError, or OSError when the log cannot be stored.
        """
        entry = self._links.get(instance_id)
        if entry is None:
            raise AgentUnreachable("not connected")
        async with asyncio.timeout(timeout_s):
            return await entry[0].drain(job)

    async def _update(self, group: asyncio.TaskGroup, ids: set[str] | None) -> None:
        """Of the instances of these ids, None: of all that nobody holds, link those that want it, and close others."""
        if ids is not None and not ids:
            return
        candidates: dict[str, Instance] = {}
        for instance, free in _pairs(await self._store.linkable(self._owner, ids)):
            wanted = instance.data is not None and instance.status is not InstanceStatus.TERMINATED
            if not wanted and instance.id in self._links:
                await self._forget(instance.id)
            elif wanted and free and instance.id not in self._links:
                candidates[instance.id] = instance
        if not candidates:
            self._left_over = False if ids is None else self._left_over
            return
        chosen = await self._chosen(list(candidates), everything=ids is None and self._left_over)
        if ids is None:
            self._left_over = len(chosen) < len(candidates)
        with self._loose_unless_told(chosen):
            taken = await self._store.take_links(self._owner, chosen)
        for hold in taken:
            self._open(group, candidates[hold.instance_id], hold)

    @contextlib.contextmanager
    def _loose_unless_told(self, ids: Iterable[str]) -> Iterator[None]:
        """Hosts of which nobody knows who holds them when the database does not answer: this server lives, so no other
        one would ever take them."""
        try:
            yield
        except DatabaseUnavailable:
            self._loose |= {*ids}
            self.look()
            raise

    async def _let_go(self) -> None:
        loose = self._loose - self._links.keys()
        if loose:
            await self._store.let_go_of_links(self._owner, sorted(loose))
        self._loose.clear()

    async def _chosen(self, ids: list[str], *, everything: bool) -> list[str]:
        """Those that this server should take now. What others left for a whole round is taken."""
        others = self._others()
        if everything or not others:
            return ids
        counts = await self._store.link_counts()
        room = _share(sum(counts.values()) + len(ids), len(others)) - counts.get(self._owner, 0)
        # Not all servers try the same ones.
        return random.sample(ids, max(0, min(room, len(ids))))

    def _open(self, group: asyncio.TaskGroup, instance: Instance, hold: Hold) -> None:
        parts = self._connect, self._store, self._logs, self._gauges, self._clock, self._kick_engine, self._kick_acts
        link = HostLink(instance, hold, *parts, self.pace_s)
        with about(instance=instance.id, project=instance.project_id):
            task = group.create_task(link.run())
        self._links[instance.id] = (link, task)
        task.add_done_callback(lambda _: self._ended(link))

    def _ended(self, link: HostLink) -> None:
        """A link that lost its host to another server ends by itself."""
        id_ = link.hold.instance_id
        if id_ in self._links and self._links[id_][0] is link:
            del self._links[id_]

    async def _forget(self, instance_id: str) -> None:
        link, task = self._links.pop(instance_id)
        task.cancel()
        await self._store.forget_link(link.hold)

    async def _close(self, links: list[HostLink]) -> None:
        tasks = [self._links.pop(link.hold.instance_id)[1] for link in links if link.hold.instance_id in self._links]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _connect(self, instance: Instance) -> Connect:
        """How to reach the host. Raises AgentUnreachable."""
        backend = await self._backends.find(instance.project_id, instance.offer.backend)
        if instance.data is None or not isinstance(backend, HostsAgent):
            raise AgentUnreachable(f"backend {instance.offer.backend} is not configured on this server")
        try:
            return await backend.agent_connect(instance.token, instance.data)
        except (BackendError, OSError) as e:
            raise AgentUnreachable(str(e)) from e


def _share(hosts: int, others: int) -> int:
    """How many of the hosts one server should hold, rounded up."""
    return -(-hosts // (others + 1))


def _pairs(found: list[Linkable]) -> list[tuple[Instance, bool]]:
    return [(one.instance, one.free) for one in found]
