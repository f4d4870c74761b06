"""A store in memory with the commit contract of the real one: claims, versions, guards, wakes that are never lost."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dstack.control.job.gang import waits_for_gang
from dstack.control.kernel import Decision, IllegalTransition, Pending, Probe, Received, Turn
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
from dstack.model.event import Event
from dstack.model.job import Job
from dstack.model.observation import Observation
from dstack.model.offer import Offer
from dstack.model.row import Ref, Row
from dstack.sim.indexes import Indexes


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of `owner` to decide one row until the lease ends."""

    ref: Ref
    owner: str
    fence: int
    wake_seq: int


@dataclass(frozen=True, slots=True)
class ClaimedAct:
    """An act that a worker runs now; `attempts` counts the earlier tries."""

    ref: Ref
    verb: str
    token: str
    payload: Mapping[str, Any]
    attempts: int
    owner: str
    fence: int


@dataclass(slots=True)
class Lease:
    """The columns that a decision never sees."""

    due_at: float | None
    wake_seq: int = 0
    owner: str | None = None
    until: float = 0.0
    fence: int = 0

    def ready_at(self) -> float | None:
        if self.due_at is None:
            return None
        return max(self.due_at, self.until) if self.owner is not None else self.due_at


@dataclass(slots=True)
class ActRow:
    ref: Ref
    verb: str
    token: str
    payload: Mapping[str, Any]
    created_at: float
    lease: Lease
    attempts: int = 0
    last_error: str = ""


@dataclass(slots=True)
class Committed:
    accepted: list[Decision] = field(default_factory=list)
    refused: list[Decision] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    touched: dict[Ref, None] = field(default_factory=dict)
    causes: dict[Ref, list[str]] = field(default_factory=dict)  # types of the consumed observations


class World:
    """Rows are kept as they are; `rows[ref]` is the newest value. Every mutation goes through the methods below."""

    def __init__(self, offers: Callable[[], Sequence[Offer]] = tuple):
        self.rows: dict[Ref, Row] = {}
        self.leases: dict[Ref, Lease] = {}
        self.acts: dict[tuple[Ref, str], ActRow] = {}
        self.unfinished: Counter[tuple[Ref, str]] = Counter()  # more than one of a kind is a bug that `acts` would hide
        self.events: list[Event] = []
        self.inbox: dict[Ref, list[Received]] = {}
        self._offers = offers
        self._indexes = Indexes()
        self._due: list[tuple[float, int, Ref]] = []
        self._due_acts: list[tuple[float, int, tuple[Ref, str]]] = []
        self._acts_of: dict[Ref, dict[str, ActRow]] = {}
        self._serial = 0

    # What routes do.

    def add(self, row: Row, due_at: float) -> None:
        """A new row, made by a route."""
        self._put(row)
        self.leases[row.ref] = Lease(due_at)
        self._schedule(row.ref)

    def intend(self, ref: Ref, now: float, **fields: Any) -> None:
        """Write an intent and wake the resource."""
        row = self.rows[ref]
        self._put(row.replace(**fields, version=row.version + 1))
        self.wake([ref], now)

    def wake(self, refs: Iterable[Ref], now: float) -> None:
        """Make rows due; one that is being decided just now is due again right after."""
        for ref in refs:
            lease = self.leases.get(ref)
            if lease is not None and lease.due_at is not None:
                lease.wake_seq += 1
                lease.due_at = min(lease.due_at, now)
                self._schedule(ref)

    # The five verbs.

    def claim_due(self, now: float, owner: str, limit: int, lease_s: float) -> list[Claim]:
        claims: list[Claim] = []
        while self._due and self._due[0][0] <= now and len(claims) < limit:
            ref = heapq.heappop(self._due)[2]
            lease = self.leases[ref]
            ready = lease.ready_at()
            if ready is None:
                continue
            if ready > now:
                self._schedule(ref)
                continue
            lease.owner, lease.until, lease.fence = owner, now + lease_s, lease.fence + 1
            self._schedule(ref)  # should the owner die
            claims.append(Claim(ref, owner, lease.fence, lease.wake_seq))
        return claims

    def load(self, claims: Sequence[Claim], now: float) -> list[Snapshot]:
        """One moment's snapshots, in the order of the claims."""
        return [self._snapshot(claim.ref) for claim in claims]

    def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
        """Each decision is accepted or refused whole; a resource with a refused one is due again at once."""
        result = Committed()
        released: list[tuple[Claim, float | None]] = []
        for claim, turn in batch:
            complete = True
            # Rows of refused units: a later unit of the turn expects their versions as they would have become, and
            # another writer's change can have raised them to just that.
            void: set[Ref] = set()
            for decision in (*turn.units, turn.own):
                leans = not void.isdisjoint(x.ref for x in (*decision.changes, *decision.guards))
                if self._holds(claim) and not leans and self._acceptable(decision):
                    self._apply(decision, now)
                    self._consume(decision, result)
                    result.accepted.append(decision)
                    result.probes += decision.probes
                    self._touch(result, decision)
                else:
                    result.refused.append(decision)
                    void.update(c.ref for c in decision.changes)
                    complete = False
            released.append((claim, turn.own.wake_at if complete else now))
        self.wake([ref for d in result.accepted for ref in d.wakes], now)
        for claim, wake_at in released:
            self._release(claim, wake_at, now)
        return result

    def claim_acts(self, now: float, owner: str, limit: int, lease_s: float) -> list[ClaimedAct]:
        claimed: list[ClaimedAct] = []
        while self._due_acts and self._due_acts[0][0] <= now and len(claimed) < limit:
            key = heapq.heappop(self._due_acts)[2]
            one = self.acts.get(key)
            if one is None:
                continue
            ready = one.lease.ready_at()
            if ready is None or ready > now:
                self._schedule_act(one)
                continue
            lease = one.lease
            lease.owner, lease.until, lease.fence = owner, now + lease_s, lease.fence + 1
            self._schedule_act(one)
            claimed.append(ClaimedAct(one.ref, one.verb, one.token, one.payload, one.attempts, owner, lease.fence))
        return claimed

    def finish_act(self, one: ClaimedAct, seen: Sequence[tuple[Ref, Observation]], now: float) -> bool:
        """The act is over: forget it and deliver what it saw, together. False if the claim was lost meanwhile."""
        if self._held(one) is None:
            return False
        self._forget_act((one.ref, one.verb))
        self.observe(seen, now)
        self.wake([one.ref], now)
        return True

    def retry_act(
        self, one: ClaimedAct, seen: Sequence[tuple[Ref, Observation]], due_at: float, error: str, now: float
    ) -> bool:
        """The act runs again at `due_at`. False if the claim was lost meanwhile."""
        act = self._held(one)
        if act is None:
            return False
        act.attempts, act.last_error = act.attempts + 1, error
        act.lease = replace(act.lease, due_at=due_at, owner=None, until=0.0)
        self._schedule_act(act)
        self.observe(seen, now)
        return True

    def observe(self, seen: Iterable[tuple[Ref, Observation]], now: float) -> None:
        """Put observations into inboxes and make their resources due. Those of unknown rows are dropped."""
        for ref, observation in seen:
            if ref in self.rows:
                self._serial += 1
                self.inbox.setdefault(ref, []).append(Received(self._serial, observation, now))
                self.wake([ref], now)

    def next_due(self) -> float | None:
        """When something can be claimed next: a row or an act."""
        times = [heap[0][0] for heap in (self._due, self._due_acts) if heap]
        return min(times, default=None)

    def jobs_on(self, instance_id: str) -> tuple[Job, ...]:
        """The jobs that hold blocks of an instance."""
        return self._all("job", self._indexes.placed[instance_id])

    # Snapshots.

    def _snapshot(self, ref: Ref) -> Snapshot:
        row: Any = self.rows[ref]
        pending = tuple(
            Pending(a.verb, a.token, a.attempts, a.created_at, a.last_error)
            for a in self._acts_of.get(ref, {}).values()
        )
        inbox = tuple(self.inbox.get(ref, ()))
        index = self._indexes
        match ref.kind:
            case "run":
                return RunSnapshot(row, tuple(index.newest[ref.id].values()), pending, inbox)
            case "job":
                instance: Any = self.rows.get(Ref("instance", row.instance_id)) if row.instance_id else None
                gang = index.gangs[row.run_id, row.replica_num, row.submission_num] if waits_for_gang(row) else ()
                return JobSnapshot(row, instance, pending, inbox, self._all("job", (i for i in gang if i != row.id)))
            case "instance":
                fleet: Any = self.rows.get(Ref("fleet", row.fleet_id))
                return InstanceSnapshot(row, fleet, self._all("job", index.placed[ref.id]), pending, inbox)
            case "fleet":
                instances = self._all("instance", index.of_fleet[ref.id])
                return FleetSnapshot(row, instances, tuple(self._offers()), pending, inbox)
            case "chore":
                orphans = self._all("orphan", index.live["orphan", row.project_id])
                return ChoreSnapshot(row, orphans, pending, inbox)
            case "orphan":
                return OrphanSnapshot(row, pending, inbox)
            case _:
                project = row.project_id
                if not index.waiting[project]:  # nobody waits: the pool is not looked at
                    return QueueSnapshot(row, (), (), (), (), pending, inbox)
                return QueueSnapshot(
                    row,
                    self._all("job", index.waiting[project]),
                    self._all("fleet", index.live["fleet", project]),
                    self._all("instance", index.live["instance", project]),
                    tuple(self._offers()),
                    pending,
                    inbox,
                )

    def _all(self, kind: str, ids: Iterable[str]) -> tuple[Any, ...]:
        return tuple(self.rows[Ref(kind, id_)] for id_ in ids)

    # The commit.

    def _holds(self, claim: Claim) -> bool:
        lease = self.leases[claim.ref]
        return lease.owner == claim.owner and lease.fence == claim.fence

    def _acceptable(self, decision: Decision) -> bool:
        for item in (*decision.changes, *decision.guards):
            row = self.rows.get(item.ref)
            if row is None or row.version != item.version:
                return False
        if any(create.row.ref in self.rows for create in decision.creates):
            return False
        return not any((a.ref, a.verb) in self.acts for a in decision.acts)

    def _apply(self, decision: Decision, now: float) -> None:
        for create in decision.creates:
            self.add(create.row, now)
        for change in decision.changes:
            row = self.rows[change.ref]
            status = change.fields.get("status")
            if status is not None and status not in row.transitions[row.status]:
                raise IllegalTransition(f"{row.kind} {row.id}: {row.status} -> {status}")
            self._put(row.replace(**change.fields, version=row.version + 1))
        for settle in decision.settles:
            act = self.acts.get((settle.ref, settle.verb))
            if act is not None and (act.lease.owner is None or act.lease.until <= now):
                self._forget_act((settle.ref, settle.verb))
        for a in decision.acts:
            act = ActRow(a.ref, a.verb, a.token, dict(a.payload), now, Lease(now))
            self.acts[a.ref, a.verb] = act
            self.unfinished[a.ref, a.verb] += 1
            self._acts_of.setdefault(a.ref, {})[a.verb] = act
            self._schedule_act(act)
        self.events += decision.events

    def _consume(self, decision: Decision, result: Committed) -> None:
        if decision.consumes:
            gone, lying = set(decision.consumes), self.inbox.get(decision.ref, [])
            result.causes[decision.ref] = [r.observation.type for r in lying if r.id in gone]
            self.inbox[decision.ref] = [r for r in lying if r.id not in gone]

    def _touch(self, result: Committed, decision: Decision) -> None:
        for create in decision.creates:
            result.touched[create.row.ref] = None
        for change in decision.changes:
            result.touched[change.ref] = None

    def _release(self, claim: Claim, wake_at: float | None, now: float) -> None:
        if not self._holds(claim):
            return
        lease = self.leases[claim.ref]
        lease.owner, lease.until = None, 0.0
        if self.rows[claim.ref].terminal:
            lease.due_at = None
            return
        lease.due_at = wake_at if lease.wake_seq == claim.wake_seq else now
        self._schedule(claim.ref)

    # Rows, acts and their heaps.

    def _put(self, row: Row) -> None:
        self._indexes.update(self.rows.get(row.ref), row)
        self.rows[row.ref] = row
        lease = self.leases.get(row.ref)
        if lease is not None and row.terminal:
            lease.due_at = None

    def _held(self, one: ClaimedAct) -> ActRow | None:
        act = self.acts.get((one.ref, one.verb))
        if act is None or act.token != one.token:
            return None
        return act if (act.lease.owner, act.lease.fence) == (one.owner, one.fence) else None

    def _forget_act(self, key: tuple[Ref, str]) -> None:
        del self.acts[key]
        self.unfinished[key] -= 1
        if not self.unfinished[key]:
            del self.unfinished[key]
        self._acts_of[key[0]].pop(key[1], None)

    def _schedule(self, ref: Ref) -> None:
        ready = self.leases[ref].ready_at()
        if ready is not None:
            self._serial += 1
            heapq.heappush(self._due, (ready, self._serial, ref))

    def _schedule_act(self, act: ActRow) -> None:
        ready = act.lease.ready_at()
        if ready is not None:
            self._serial += 1
            heapq.heappush(self._due_acts, (ready, self._serial, (act.ref, act.verb)))
