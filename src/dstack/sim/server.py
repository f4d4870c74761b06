"""A simulated server: the five verbs over the world, in one life after another; it may die between any two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dstack.control.chore.compare import KnownInstance, KnownOrphan, compare
from dstack.control.chore.decide import CONFIRM_S
from dstack.control.decide import decide
from dstack.control.kernel import Probe, Turn
from dstack.model.chore import Chore
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job
from dstack.model.observation import Adopted, Observation, Stranger, Swept, TaskAccepted, TaskRemoved
from dstack.model.orphan import Orphan
from dstack.model.row import Ref
from dstack.sim.clock import VirtualClock
from dstack.sim.cloud import Cloud, CloudDown, Machine
from dstack.sim.faults import Faults
from dstack.sim.host import Host, Script, Unreachable
from dstack.sim.links import Links
from dstack.sim.trace import Trace
from dstack.sim.world import Claim, ClaimedAct, Committed, World

BATCH = 256
CLAIM_LEASE_S, ACT_LEASE_S = 30.0, 60.0
MAX_BACKOFF_S = 60.0
CREATE_TRIES = 6

Seen = list[tuple[Ref, Observation]]


@dataclass
class Parts:
    """What a server works with; shared by all servers of one simulation."""

    clock: VirtualClock
    world: World
    cloud: Cloud
    faults: Faults
    trace: Trace
    scripts: Mapping[str, Script]  # by the name of a job, or of a run for all of its jobs
    after_commit: Callable[[], None]


class Server:
    """`step` does everything that can be done at this instant."""

    links_class = Links

    def __init__(self, name: str, parts: Parts, *, holds_links: bool):
        self.name = name
        self.parts = parts
        self.decisions = 0
        self._holds_links = holds_links
        self._life = 0
        self._up = False
        self._busy = False
        self._ahead_s = 0.0
        self.links: Links | None = None
        self._start()

    @property
    def owner(self) -> str:
        return f"{self.name}.{self._life}"

    def step(self) -> bool:
        """Whether there was anything to do."""
        if not self._up:
            return False
        worked = self._acts()
        return (False if self._busy else self._turn()) or worked

    # Time.

    def now(self) -> float:
        """What this server takes the time for."""
        return self.parts.clock.now() + self._ahead_s

    def set_clock(self, ahead_s: float) -> None:
        """Its clock is set wrong by so much; minutes later somebody sets it right."""
        p = self.parts
        p.trace.note(p.clock.now(), f"the clock of {self.name} is set wrong by {ahead_s:+.0f} s")
        self._ahead_s = ahead_s
        p.clock.after(p.faults.between(60, 900), self._correct_clock)

    def _correct_clock(self) -> None:
        self._ahead_s = 0.0

    # Life and death.

    def _start(self) -> None:
        self._life += 1
        self._up, self._busy = True, False
        p = self.parts
        if self._holds_links:
            self.links = self.links_class(p.clock, p.world, p.cloud, p.faults, self.now)
            for row in list(p.world.rows.values()):
                if isinstance(row, Instance):
                    self.links.notice(row)

    def _crashed(self, where: str) -> bool:
        if not self.parts.faults.hit("crash", self.parts.clock.now()):
            return False
        self._dies(where)
        return True

    def _dies(self, where: str) -> None:
        p = self.parts
        p.trace.note(p.clock.now(), f"{self.owner} dies {where}")
        self._up = False
        if self.links is not None:
            self.links.close()
            self.links = None
        p.clock.after(p.faults.between(0.5, 90), self._start)

    def _lives(self, life: int) -> bool:
        return self._up and self._life == life

    # Due, load, decide, commit, dispatch.

    def _turn(self) -> bool:
        p, now = self.parts, self.now()
        claims = p.world.claim_due(now, self.owner, BATCH, CLAIM_LEASE_S)
        if not claims:
            return False
        if self._crashed("after claiming"):
            return True
        batch = [(c, decide(s, now)) for c, s in zip(claims, p.world.load(claims, now), strict=True)]
        if self._crashed("before the commit"):
            return True
        pause = self._pause(now)
        if pause:
            self._busy = True
            p.clock.after(pause, self._commit, self._life, batch)
        else:
            self._commit(self._life, batch)
        return True

    def _pause(self, now: float) -> float:
        """Seconds between load and commit, in which others act."""
        faults = self.parts.faults
        if faults.hit("frozen-server", now):
            return faults.between(31, 90)
        return faults.between(0.001, 2.0) if faults.hit("slow-commit", now) else 0.0

    def _commit(self, life: int, batch: list[tuple[Claim, Turn]]) -> None:
        if not self._lives(life):
            return
        p = self.parts
        self._busy = False
        result = p.world.commit(batch, self.now())
        self.decisions += len(result.accepted)
        p.trace.commit(p.clock.now(), p.world, batch, result)
        p.after_commit()
        if not self._crashed("after the commit"):
            self._dispatch(result)

    def _dispatch(self, result: Committed) -> None:
        world = self.parts.world
        if self.links is not None:
            for ref in result.touched:
                row = world.rows[ref]
                if isinstance(row, Instance):
                    self.links.notice(row)
        for probe in result.probes:
            self._probe(probe)

    def _probe(self, probe: Probe) -> None:
        p = self.parts
        instance = p.world.rows[probe.ref]
        if isinstance(instance, Instance):
            seen = p.cloud.describe(instance)
            if seen is not None:
                p.clock.after(0.2, p.world.observe, [(probe.ref, seen)], self.now())

    # Acts.

    def _acts(self) -> bool:
        p = self.parts
        claimed = p.world.claim_acts(self.now(), self.owner, BATCH, ACT_LEASE_S)
        for one in claimed:
            p.clock.after(0.05, self._perform, self._life, one)
        return bool(claimed)

    def _perform(self, life: int, one: ClaimedAct) -> None:
        if not self._lives(life):
            return
        p = self.parts
        error, seen = self._effect(one)
        if not self._crashed(f"after the effect of {one.verb}"):
            p.clock.after(0.05, self._record, life, one, error, seen)

    def _record(self, life: int, one: ClaimedAct, error: str | None, seen: Seen) -> None:
        if not self._lives(life):
            return
        p, now = self.parts, self.now()
        if error is None:
            p.world.finish_act(one, seen, now)
        else:
            due = now + min(MAX_BACKOFF_S, 0.5 * 2 ** min(one.attempts, 10))
            p.world.retry_act(one, seen, due, error, now)

    def _effect(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        """What the act did: an error to try again for, or None, and what was seen."""
        handler = getattr(self, f"_{one.verb}")
        try:
            return handler(one)
        except Unreachable:
            return "the host does not answer", []
        except CloudDown:
            return "the cloud does not answer", []

    def _create_instance(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        return None, [(one.ref, self.parts.cloud.create(self._instance(one.ref)))]

    def _terminate_instance(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        gone = self.parts.cloud.terminate(self._instance(one.ref).token)
        return ("still terminating", []) if gone is None else (None, [(one.ref, gone)])

    def _sweep_backend(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        """As the real sweeper: nothing is lost but what two lists lack and the cloud itself says to be gone."""
        p, now = self.parts, self.now()
        listed = {machine.token: machine for machine in p.cloud.list()}
        instances = {r.id: r for r in p.world.rows.values() if isinstance(r, Instance)}
        orphans = [r for r in p.world.rows.values() if isinstance(r, Orphan) and not r.terminal]
        found = compare(
            listed, map(_known, _living(instances)), [KnownOrphan(o.id, o.token, True) for o in orphans], now
        )
        ended = {r.token: r for r in instances.values() if r.status is InstanceStatus.TERMINATED}
        strangers = tuple(_stranger(listed[token], ended.get(token)) for token in found.strangers)
        seen: Seen = [
            (
                one.ref,
                Swept(at=now, strangers=strangers, unlisted=found.unlisted, unlisted_orphans=found.unlisted_orphans),
            )
        ]
        seen += [(Ref("orphan", id_), Adopted()) for id_ in found.adopted]
        chore = p.world.rows[one.ref]
        assert isinstance(chore, Chore)
        for id_ in found.unlisted:
            confirmed = now - chore.unlisted.get(id_, now) >= CONFIRM_S and not instances[id_].linked
            if confirmed and (vanished := p.cloud.describe(instances[id_])) is not None:
                seen.append((Ref("instance", id_), vanished))
        return None, seen

    def _terminate_machine(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        orphan = self.parts.world.rows[one.ref]
        assert isinstance(orphan, Orphan)
        instances = {r.id: r for r in self.parts.world.rows.values() if isinstance(r, Instance)}
        if any(instance.token == orphan.token for instance in _living(instances)):
            return None, [(one.ref, Adopted())]
        gone = self.parts.cloud.terminate(orphan.token)
        return ("still terminating", []) if gone is None else (None, [(one.ref, gone)])

    def _start_task(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        job = self._job(one.ref)
        if job.terminal or job.instance_id is None:
            return None, []
        host = self._host(job)
        if host is None:
            raise Unreachable
        scripts = self.parts.scripts
        report = host.put(job.id, scripts.get(job.spec.name) or scripts.get(job.run_name, Script()))
        return None, [(one.ref, TaskAccepted()), (one.ref, report)]

    def _stop_task(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        job = self._job(one.ref)
        if self._machine_over(job):
            return None, []
        host = self._host(job)
        if host is None:
            raise Unreachable
        return None, [(one.ref, host.stop(job.id, float(one.payload["grace_s"])))]

    def _warn_task(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        job = self._job(one.ref)
        if job.terminal or self._machine_over(job):
            return None, []
        if self._host(job) is None:
            raise Unreachable
        return None, []

    def _remove_task(self, one: ClaimedAct) -> tuple[str | None, Seen]:
        job = self._job(one.ref)
        if self._machine_over(job):
            return None, [(one.ref, TaskRemoved())]
        host = self._host(job)
        if host is None:
            raise Unreachable
        if not host.remove(job.id):
            return "it still runs", []
        return None, [(one.ref, TaskRemoved())]

    def _machine_over(self, job: Job) -> bool:
        return job.instance_id is None or self._instance(Ref("instance", job.instance_id)).terminal

    def _host(self, job: Job) -> Host | None:
        """The job's host, which is asked who it is when it is connected to: an address alone proves nothing."""
        machine = self.parts.cloud.machines.get(self._instance(Ref("instance", job.instance_id or "")).token)
        return machine.host if machine else None

    def _instance(self, ref: Ref) -> Instance:
        row = self.parts.world.rows[ref]
        assert isinstance(row, Instance)
        return row

    def _job(self, ref: Ref) -> Job:
        row = self.parts.world.rows[ref]
        assert isinstance(row, Job)
        return row


def _living(instances: Mapping[str, Instance]) -> list[Instance]:
    return [instance for instance in instances.values() if not instance.terminal]


def _known(instance: Instance) -> KnownInstance:
    going = instance.status in (InstanceStatus.TERMINATING, InstanceStatus.PENDING)
    there = None if going or instance.data is None else instance.started_at
    return KnownInstance(instance.id, instance.token, True, there, instance.linked)


def _stranger(machine: Machine, ended: Instance | None) -> Stranger:
    return Stranger(
        token=machine.token,
        backend_id=f"m-{machine.number}",
        instance_id=ended.id if ended else None,
        instance_name=ended.name if ended else None,
    )
