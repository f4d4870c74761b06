"""One simulated project from its first fleet to its last machine, under faults, checked after every commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dstack.control import invariants
from dstack.control.invariants import beyond_minimum
from dstack.control.kernel import IllegalTransition
from dstack.model.instance import Instance
from dstack.model.row import Ref
from dstack.sim.clock import VirtualClock
from dstack.sim.cloud import Cloud, Machine
from dstack.sim.faults import ALL, Faults, Hit
from dstack.sim.host import Host, Task
from dstack.sim.scenario import People, offers
from dstack.sim.server import Parts, Server
from dstack.sim.trace import Trace
from dstack.sim.world import World

START = 1_000_000.0
# After the last fault everything must have come to its end within this.
SETTLE_S = 12 * 3600.0
MINUTE = 60.0


@dataclass(frozen=True)
class Result:
    """`broken` is empty when all invariants held and every run ended."""

    seed: int
    broken: tuple[str, ...]
    digest: str
    decisions: int
    faults: dict[str, int]
    statuses: dict[str, int]
    machines: int
    ended_at: float
    story: tuple[str, ...]
    hits: tuple[Hit, ...]  # the faults that happened
    wishes: tuple[str, ...]  # what people wanted


class Broken(Exception):
    """An invariant does not hold."""


class Simulation:
    """`run()` plays it to the end. The world and the servers may be replaced by worse ones to see that it notices."""

    def __init__(
        self,
        seed: int,
        *,
        jobs: int = 30,
        hours: float = 1.0,
        faults: Iterable[str] = ALL,
        servers: int = 2,
        heard_within_s: float = invariants.HEARD_WITHIN_S,
        only: Collection[Hit] | None = None,
        without: Iterable[str] = (),
        world: type[World] = World,
        server: type[Server] = Server,
    ):
        self.seed = seed
        self.clock = VirtualClock(START)
        self.faults = Faults(seed, faults, START + hours * 3600, only)
        self.trace = Trace()
        self.cloud = Cloud(self.clock, self.faults, offers(), self._task_changed)
        self.world = world(lambda: self.cloud.offers)
        self.people = People(seed, frozenset(without))
        parts = Parts(
            self.clock, self.world, self.cloud, self.faults, self.trace, self.people.scripts, self._after_commit
        )
        self._problems: list[str] = []
        self._ended: dict[Ref, str] = {}
        self._foreign = 0
        self._heard_within_s = heard_within_s
        self.people.begin(self.world, START)
        self.servers = [server(f"s{n}", parts, holds_links=n == 0) for n in range(servers)]
        self._wishes = sorted(self.people.plans(jobs, hours * 3600))
        for at, wish in self._wishes:
            self.clock.at(START + at, self._want, wish)
        self.clock.after(MINUTE, self._trouble)

    def run(self) -> Result:
        try:
            self._play(self._all_over)
            self._play(self._at_rest)
            self.people.leave(self.world, self.clock.now())
            self._play(self._all_gone)
            self._check()
            self._at_the_end()
        except (Broken, IllegalTransition) as e:
            self._problems.append(str(e))
        return self._result()

    def _want(self, wish: str) -> None:
        self.people.want(wish, self.world, self.clock.now())

    def _play(self, over) -> None:
        """Go on until `over`, at most until everything should have settled."""
        deadline = max(self.faults.until, self.clock.now()) + SETTLE_S
        while self.clock.now() < deadline:
            while any([s.step() for s in self.servers]):
                pass
            if self.clock.now() >= self.faults.until and over():
                return
            self._move()
        raise Broken(self._unfinished())

    def _move(self) -> None:
        """To the next plan, or to the next due row if that comes first."""
        planned, due = self.clock.next_at(), self.world.next_due()
        if due is not None and (planned is None or due < planned) and due > self.clock.now():
            self.clock.advance(due)
        elif planned is not None:
            self.clock.step()
        else:
            raise Broken("nothing is planned and nothing is due, but not all is over")

    def _trouble(self) -> None:
        """What befalls machines and servers, each minute."""
        now = self.clock.now()
        for server in self.servers:
            if self.faults.hit("clock-jump", now):
                server.set_clock(self.faults.between(-300, 300))
        for machine in self._ours():
            if self.faults.hit("preemption", now):
                self.cloud.preempt(machine.token)
            elif self.faults.hit("reboot", now):
                machine.host.reboot(self.faults.between(30, 120))
            elif self.faults.hit("deaf-agent", now):
                machine.host.deaf_until = now + self.faults.between(300, 3000)
            elif self.faults.hit("short-deafness", now):
                machine.host.deaf_until = now + self.faults.between(5, 90)
        if self.faults.hit("foreign-machine", now):
            self.cloud.add_foreign()
            self._foreign += 1
        if now < self.faults.until:
            self.clock.after(MINUTE, self._trouble)

    def _task_changed(self, host: Host, task: Task) -> None:
        for server in self.servers:
            if server.links is not None:
                server.links.changed(host, task)

    # What must hold.

    def _after_commit(self) -> None:
        self._check()

    def _check(self) -> None:
        world = self.world
        due = {ref: lease.due_at for ref, lease in world.leases.items()}
        hosts = [m.host for m in self.cloud.machines.values()]
        tasks = {job_id: host.token for host in hosts for job_id in host.running()}
        alive = {m.token for m in self._ours()}
        unread = {ref: lying[0].at for ref, lying in world.inbox.items() if lying and not world.rows[ref].terminal}
        view = invariants.View(
            self.clock.now(),
            world.rows.values(),
            due,
            world.unfinished,
            alive,
            tasks,
            unread,
            self._heard_within_s,
            ended=self._ended,
        )
        found = invariants.broken(view)
        self._ended |= {ref: str(row.status) for ref, row in world.rows.items() if row.terminal}
        found += [f"job {j} was started {n} times on one host" for h in hosts for j, n in h.starts.items() if n > 1]
        if len(self.cloud.machines) - len(self._ours()) < self._foreign:
            found.append("a machine that no row knows was ended unasked")
        if found:
            raise Broken("; ".join(found[:3]))

    def _all_over(self) -> bool:
        runs = self.people.runs
        return all(self.world.rows[r].terminal for r in runs)

    def _at_rest(self) -> bool:
        """Nobody wants anything: of each fleet so many machines are left as it keeps."""
        return not beyond_minimum(self.world.rows.values())

    def _all_gone(self) -> bool:
        """All but what goes on for ever, and machines that wait for a person's word."""
        lasting = ("queue", "chore", "orphan")
        rows = (row for row in self.world.rows.values() if row.kind not in lasting)
        return all(row.terminal for row in rows) and all(ref.kind in lasting for ref, _ in self.world.acts)

    def _at_the_end(self) -> None:
        if self._ours():
            raise Broken(f"{len(self._ours())} machines still run at the end")

    def _ours(self) -> list[Machine]:
        return [machine for machine in self.cloud.machines.values() if not machine.foreign]

    def _unfinished(self) -> str:
        left = [f"{r.kind} {getattr(r, 'name', r.id)} {r.status}" for r in self.world.rows.values() if not r.terminal]
        left += [f"act {verb} of {ref.kind} {ref.id}" for ref, verb in self.world.acts]
        return "not over when it should be: " + ", ".join(left[:8])

    def _result(self) -> Result:
        statuses: dict[str, int] = {}
        for ref in self.people.runs:
            status = str(self.world.rows[ref].status)
            statuses[status] = statuses.get(status, 0) + 1
        return Result(
            seed=self.seed,
            broken=tuple(self._problems),
            digest=self.trace.digest(),
            decisions=self.trace.decisions,
            faults={name: n for name, n in self.faults.count.items() if n},
            statuses=statuses,
            machines=sum(isinstance(r, Instance) for r in self.world.rows.values()),
            ended_at=self.clock.now() - START,
            story=tuple(self.trace.lines),
            hits=tuple(self.faults.hits),
            wishes=tuple(wish for _, wish in self._wishes if wish not in self.people.without),
        )
