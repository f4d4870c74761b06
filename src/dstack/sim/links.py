"""The links to the hosts: one long poll each, told of every loss and return, delivered twice or late at times."""

from __future__ import annotations

from collections.abc import Callable

from dstack.model.instance import HostInfo, Instance
from dstack.model.observation import LinkDown, LinkUp, Observation, TaskLost
from dstack.model.row import Ref
from dstack.sim.clock import VirtualClock
from dstack.sim.cloud import Cloud
from dstack.sim.faults import Faults
from dstack.sim.host import Host, Task
from dstack.sim.world import World

FIRST_RETRY_S, MAX_RETRY_S = 0.2, 30.0
NOTICED_AFTER_S = 30.0  # a broken connection is noticed by its keep-alives


class Link:
    __slots__ = ("delay", "up", "was_up")

    def __init__(self) -> None:
        self.up = False
        self.was_up = False
        self.delay = FIRST_RETRY_S


class Links:
    """Belongs to one life of a server; `close` ends it, and nothing of it is delivered any more."""

    def __init__(self, clock: VirtualClock, world: World, cloud: Cloud, faults: Faults, now: Callable[[], float]):
        self._clock = clock
        self._world = world
        self._cloud = cloud
        self._faults = faults
        self._now = now
        self._links: dict[str, Link] = {}
        self._by_token: dict[str, str] = {}
        self._open = True

    def close(self) -> None:
        self._open = False

    def notice(self, instance: Instance) -> None:
        """An instance was committed: it may need a link, or none any more."""
        if instance.terminal or instance.data is None:
            self._links.pop(instance.id, None)
        elif instance.id not in self._links and self._open:
            link = self._links[instance.id] = Link()
            link.was_up = instance.linked and instance.unreachable_since is None
            self._by_token[instance.token] = instance.id
            self._clock.after(0.0, self._connect, instance.id, link)

    def changed(self, host: Host, task: Task) -> None:
        """A task changed: the long poll of its host says so, if it stands."""
        link = self._links.get(self._by_token.get(host.token, ""))
        if self._open and link is not None and link.up and host.reachable():
            self._deliver([(Ref("job", task.job_id), task.report())])

    def _connect(self, instance_id: str, link: Link) -> None:
        instance = self._instance(instance_id, link)
        if instance is None:
            return
        host = self._host(instance)
        if host is None or not host.reachable():
            if link.was_up:
                link.was_up = False
                self._deliver([(instance.ref, LinkDown(message="no answer"))])
            self._clock.after(link.delay, self._connect, instance_id, link)
            link.delay = min(link.delay * 2, MAX_RETRY_S)
            return
        link.up, link.was_up, link.delay = True, True, FIRST_RETRY_S
        self._resume(instance, host)
        self._clock.after(NOTICED_AFTER_S, self._watch, instance_id, link)

    def _resume(self, instance: Instance, host: Host) -> None:
        seen: list[tuple[Ref, Observation]] = [(instance.ref, LinkUp(host=HostInfo(hostname=host.token)))]
        for row in self._world.jobs_on(instance.id):
            if row.task_started and row.id not in host.tasks:
                seen.append((row.ref, TaskLost()))
        seen += [(Ref("job", t.job_id), t.report()) for t in host.tasks.values()]
        self._world.observe(seen, self._now())

    def _watch(self, instance_id: str, link: Link) -> None:
        instance = self._instance(instance_id, link)
        if instance is None:
            return
        host = self._host(instance)
        if host is not None and host.reachable():
            self._clock.after(NOTICED_AFTER_S, self._watch, instance_id, link)
            return
        link.up = False
        self._connect(instance_id, link)

    def _instance(self, instance_id: str, link: Link) -> Instance | None:
        """The row, while this link is still wanted."""
        if not self._open or self._links.get(instance_id) is not link:
            return None
        row = self._world.rows[Ref("instance", instance_id)]
        return row if isinstance(row, Instance) and not row.terminal else None

    def _host(self, instance: Instance) -> Host | None:
        """The host at the instance's address, if it is the instance's own and no newer machine."""
        host = self._cloud.at_address(instance.data.hostname) if instance.data else None
        return host if host is not None and self._own(host, instance) else None

    def _own(self, host: Host, instance: Instance) -> bool:
        return host.token == instance.token

    def _deliver(self, seen: list[tuple[Ref, Observation]]) -> None:
        now = self._clock.now()
        if self._faults.hit("late-observation", now):
            self._clock.after(self._faults.between(1, 120), self._arrive, seen)
            return
        self._arrive(seen)
        if self._faults.hit("double-delivery", now):
            self._clock.after(self._faults.between(0, 60), self._arrive, seen)

    def _arrive(self, seen: list[tuple[Ref, Observation]]) -> None:
        if self._open:
            self._world.observe(seen, self._now())
