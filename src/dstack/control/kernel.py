"""The form of every decision: what it may contain, and a draft in which one is written down.

    decide(snapshot, now) -> Decision

A decision is data. The engine commits it as one transaction (accepted whole or refused whole) and only then
dispatches its acts and probes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dstack.ids import derived_id
from dstack.model.event import Event, EventTarget
from dstack.model.observation import Observation
from dstack.model.row import Ref, Row

R = TypeVar("R", bound=Row)
R2 = TypeVar("R2", bound=Row)


class IllegalTransition(Exception):
    """A decision tried to leave the literal transition table: a bug of ours, never the person's."""


@dataclass(frozen=True, slots=True)
class Create:
    """A new row, due at once."""

    row: Row


@dataclass(frozen=True, slots=True)
class Change:
    """New values of some fields of one row, valid only while the row has `version`."""

    ref: Ref
    version: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Guard:
    """The decision relied upon this row as it was at `version`."""

    ref: Ref
    version: int


@dataclass(frozen=True, slots=True)
class Act:
    """Something that must happen outside: recorded with the decision, run at least once, idempotent by `token`.

    At most one unfinished act exists per (resource, verb); `payload` is small JSON without secrets.
    """

    ref: Ref
    verb: str
    token: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """A read-only question about the resource; it may be lost, the decision will ask again."""

    ref: Ref
    verb: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settle:
    """Ends the unfinished act of (resource, verb) unless a worker holds it just now."""

    ref: Ref
    verb: str


@dataclass(frozen=True, slots=True)
class Pending:
    """An unfinished act as a snapshot shows it."""

    verb: str
    token: str
    attempts: int
    created_at: float
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """An observation from the inbox; a decision consumes it by `id`."""

    id: int
    observation: Observation
    at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """One unit of commitment. `ref` is the decided resource, `version` the one it was decided at.

    `wake_at` is the earliest stored deadline of the resource (an absolute instant), None only if it became terminal.
    """

    ref: Ref
    version: int
    creates: tuple[Create, ...] = ()
    changes: tuple[Change, ...] = ()
    guards: tuple[Guard, ...] = ()
    acts: tuple[Act, ...] = ()
    settles: tuple[Settle, ...] = ()
    probes: tuple[Probe, ...] = ()
    events: tuple[Event, ...] = ()
    wakes: tuple[Ref, ...] = ()
    consumes: tuple[int, ...] = ()
    wake_at: float | None = None

    @property
    def empty(self) -> bool:
        """Nothing but the next wake: no row but the resource's `due_at` is touched."""
        return not (self.creates or self.changes or self.acts or self.settles or self.events or self.wakes)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one resource decided in one turn: its own decision, and further units that stand or fall alone.

    Only the queue has units; each is a gang with its instances and blocks.
    """

    own: Decision
    units: tuple[Decision, ...] = ()


class Draft(Generic[R]):
    """A decision being written. It keeps the newest value of each touched row and checks every status change."""

    def __init__(self, row: R, now: float, pending: Iterable[Pending] = ()):
        self.row = row
        self.now = now
        self._original: dict[Ref, Row] = {row.ref: row}
        self._current: dict[Ref, Row] = {row.ref: row}
        self._fields: dict[Ref, dict[str, Any]] = {}
        self._creates: list[Create] = []
        self._guards: dict[Ref, Guard] = {}
        self._acts: list[Act] = []
        self._settles: list[Settle] = []
        self._probes: list[Probe] = []
        self._events: list[Event] = []
        self._wakes: dict[Ref, None] = {}
        self._consumes: list[int] = []
        self._pending = {p.verb: p for p in pending}

    def set(self, **fields: Any) -> R:
        """Change fields of the decided row; answers its new value."""
        self.row = self.change(self.row, **fields)
        return self.row

    def change(self, row: Row, **fields: Any) -> Any:
        """Change fields of any row of the snapshot. A status must follow the row's transition table."""
        base = self._current.setdefault(row.ref, row)
        self._original.setdefault(row.ref, row)
        fields = {k: v for k, v in fields.items() if getattr(base, k) != v}
        if not fields:
            return base
        new_status = fields.get("status")
        if new_status is not None and new_status not in base.transitions[base.status]:
            raise IllegalTransition(f"{base.kind} {base.id}: {base.status} -> {new_status}")
        changed = base.replace(**fields)
        self._current[row.ref] = changed
        self._fields.setdefault(row.ref, {}).update(fields)
        if row.ref == self.row.ref:
            self.row = changed
        return changed

    def current(self, row: R2) -> R2:
        """The newest value of a row in this draft; the row itself while nothing of it was changed."""
        return self._current.get(row.ref, row)  # type: ignore[return-value]

    def create(self, row: Row) -> None:
        self._creates.append(Create(row))

    def guard(self, row: Row) -> None:
        """This decision holds only while `row` is as the snapshot showed it."""
        self._guards[row.ref] = Guard(row.ref, self._original.get(row.ref, row).version)

    def act(self, verb: str, attempt: int | str = 0, **payload: Any) -> None:
        """Record an act of the decided row; does nothing while one of the same verb is unfinished."""
        if verb in self._pending:
            return
        token = derived_id(self.row.id, f"act:{verb}", attempt)
        self._pending[verb] = Pending(verb, token, 0, self.now)
        self._acts.append(Act(self.row.ref, verb, token, payload))

    def settle(self, verb: str) -> None:
        if verb in self._pending:
            self._settles.append(Settle(self.row.ref, verb))

    def unfinished(self, verb: str) -> bool:
        return verb in self._pending

    def pending(self, verb: str) -> Pending | None:
        """The unfinished act of this verb, if there is one."""
        return self._pending.get(verb)

    def probe(self, verb: str, **payload: Any) -> None:
        self._probes.append(Probe(self.row.ref, verb, payload))

    def event(self, message: str, *targets: EventTarget, actor_id: str | None = None) -> None:
        self._events.append(Event(message, targets, actor_id, self.row.project_id or None))

    def wake(self, *refs: Ref | None) -> None:
        for ref in refs:
            if ref is not None:
                self._wakes[ref] = None

    def consume(self, received: Received) -> None:
        self._consumes.append(received.id)

    def finish(self, *deadlines: float | None) -> Decision:
        """The decision; `deadlines` are all stored deadlines of the row, None among them ignored.

        Raises IllegalTransition when a non-terminal row would be left without a deadline: it could be forgotten.
        """
        times = [t for t in deadlines if t is not None]
        if not self.row.terminal and not times:
            raise IllegalTransition(f"{self.row.kind} {self.row.id}: {self.row.status} has no deadline")
        return Decision(
            ref=self.row.ref,
            version=self._original[self.row.ref].version,
            creates=tuple(self._creates),
            changes=tuple(Change(ref, self._original[ref].version, fields) for ref, fields in self._fields.items()),
            guards=tuple(g for ref, g in self._guards.items() if ref not in self._fields),
            acts=tuple(self._acts),
            settles=tuple(self._settles),
            probes=tuple(self._probes),
            events=tuple(self._events),
            wakes=tuple(self._wakes),
            consumes=tuple(self._consumes),
            wake_at=None if self.row.terminal else min(times),
        )
