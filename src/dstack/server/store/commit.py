"""The commit: a batch of decisions in one transaction, each accepted or refused as a whole.

1. lock the rows that the batch touches or relies on, in (table, id) order, and read their versions;
2. walk the units in order, accept those whose expectations hold (counting the changes of accepted ones before them);
3. write what was accepted, set by set.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import Table, and_, bindparam, case, delete, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.kernel import Decision, IllegalTransition, Probe, Turn
from dstack.ids import new_id
from dstack.model.event import Event
from dstack.model.instance import Instance
from dstack.model.row import Ref
from dstack.server.store.claims import Claim
from dstack.server.store.codec import encode, encode_field
from dstack.server.store.tables import ROW_TYPES, TABLES, act, event, event_target, host_link, inbox

BREATH = 32  # decisions encoded, then whoever else waits has the loop


@dataclass
class Committed:
    """What became of a batch. `touched` are all rows that were created, changed or woken."""

    accepted: list[Decision] = field(default_factory=list)
    refused: list[Decision] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    touched: set[Ref] = field(default_factory=set)
    acts: int = 0


@dataclass
class _Locked:
    version: int
    fence: int
    claimed_by: str | None
    status: str


def _lock_of(t: Table) -> Any:
    wanted = t.c.id.in_(bindparam("ids", expanding=True))
    columns = (t.c.id, t.c.version, t.c.fence, t.c.claimed_by, t.c.status)
    return select(*columns).where(wanted).order_by(t.c.id).with_for_update()


def _wake_of(t: Table) -> Any:
    now = bindparam("now", type_=t.c.due_at.type)
    wanted = t.c.id.in_(bindparam("ids", expanding=True)) & t.c.due_at.is_not(None)
    due_at = case((t.c.due_at < now, t.c.due_at), else_=now)
    return update(t).where(wanted).values(wake_seq=t.c.wake_seq + 1, due_at=due_at).returning(t.c.id)


def _release_of(t: Table) -> Any:
    # Woken since it was claimed: due at once, whatever the decision thought.
    wake_at, at = (bindparam(name, type_=t.c.due_at.type) for name in ("wake", "at"))
    due_at = case((t.c.wake_seq == bindparam("seen"), wake_at), else_=at)
    held = and_(t.c.id == bindparam("row_id"), t.c.fence == bindparam("held"))
    return update(t).where(held).values(due_at=due_at, claimed_by=None, claim_until=None)


# Built once: composing a statement costs more than SQLite needs to run it.
_LOCK = {kind: _lock_of(t) for kind, t in TABLES.items()}
_WAKE = {kind: _wake_of(t) for kind, t in TABLES.items()}
_RELEASE = {kind: _release_of(t) for kind, t in TABLES.items()}
_CONSUME = delete(inbox).where(inbox.c.id.in_(bindparam("ids", expanding=True)))
_FORGET = delete(inbox).where(
    inbox.c.kind == bindparam("kind"), inbox.c.resource_id.in_(bindparam("ids", expanding=True))
)
_UNFINISHED = select(act.c.kind, act.c.resource_id, act.c.verb).where(
    act.c.resource_id.in_(bindparam("ids", expanding=True))
)


@lru_cache(maxsize=512)
def _update_of(kind: str, names: tuple[str, ...]) -> Any:
    t = TABLES[kind]
    # The rows are locked and their versions were checked: nothing can come between.
    values = {name: bindparam(f"v_{name}", type_=t.c[name].type) for name in names}
    version = t.c.version + bindparam("steps")
    return update(t).where(t.c.id == bindparam("row_id")).values({**values, "version": version})


async def commit(connection: AsyncConnection, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
    """Commit what can be committed; a refused decision leaves its resource due at once, to be decided anew."""
    rows = await _lock(connection, batch)
    unfinished = await _unfinished(connection, batch)
    result = Committed()
    released: list[tuple[Claim, float | None]] = []
    for claim, turn in batch:
        complete = True
        # Rows of refused units: a later unit of the turn expects their versions as they would have become, and another
        # writer's change can have raised them to just that.
        void: set[Ref] = set()
        for decision in (*turn.units, turn.own):
            if (
                _holds(claim, rows)
                and void.isdisjoint(x.ref for x in (*decision.changes, *decision.guards))
                and _acceptable(decision, rows, unfinished)
            ):
                _apply(decision, rows, unfinished)
                result.accepted.append(decision)
            else:
                result.refused.append(decision)
                void.update(c.ref for c in decision.changes)
                complete = False
        released.append((claim, turn.own.wake_at if complete else now))
    await _write(connection, result, now)
    await _release(connection, released, rows, now)
    return result


async def _lock(connection: AsyncConnection, batch: Sequence[tuple[Claim, Turn]]) -> dict[Ref, _Locked]:
    refs: dict[str, set[str]] = defaultdict(set)
    for claim, turn in batch:
        refs[claim.ref.kind].add(claim.ref.id)
        for decision in (*turn.units, turn.own):
            for item in (*decision.changes, *decision.guards):
                refs[item.ref.kind].add(item.ref.id)
            for create in decision.creates:
                refs[create.row.kind].add(create.row.id)
            # Those too: who locks them last would wait for one that waits for it.
            for ref in decision.wakes:
                refs[ref.kind].add(ref.id)
    locked: dict[Ref, _Locked] = {}
    for kind in ROW_TYPES:
        if refs[kind]:
            found = await connection.execute(_LOCK[kind], {"ids": list(refs[kind])})
            locked.update({Ref(kind, m.id): _Locked(m.version, m.fence, m.claimed_by, m.status) for m in found})
    return locked


async def _unfinished(connection: AsyncConnection, batch: Sequence[tuple[Claim, Turn]]) -> set[tuple[str, str, str]]:
    wanted = {(a.ref.kind, a.ref.id) for _, turn in batch for d in (*turn.units, turn.own) for a in d.acts}
    if not wanted:
        return set()
    found = await connection.execute(_UNFINISHED, {"ids": sorted({id_ for _, id_ in wanted})})
    return {(kind, id_, verb) for kind, id_, verb in found if (kind, id_) in wanted}


def _holds(claim: Claim, rows: dict[Ref, _Locked]) -> bool:
    row = rows.get(claim.ref)
    return row is not None and row.claimed_by == claim.owner and row.fence == claim.fence


def _acceptable(decision: Decision, rows: dict[Ref, _Locked], unfinished: set[tuple[str, str, str]]) -> bool:
    for item in (*decision.changes, *decision.guards):
        row = rows.get(item.ref)
        if row is None or row.version != item.version:
            return False
    if any(create.row.ref in rows for create in decision.creates):
        return False
    return not any((a.ref.kind, a.ref.id, a.verb) in unfinished for a in decision.acts)


def _apply(decision: Decision, rows: dict[Ref, _Locked], unfinished: set[tuple[str, str, str]]) -> None:
    for change in decision.changes:
        row = rows[change.ref]
        status = change.fields.get("status")
        if status is not None and status not in ROW_TYPES[change.ref.kind].transitions[row.status]:
            raise IllegalTransition(f"{change.ref.kind} {change.ref.id}: {row.status} -> {status}")
        row.version += 1
        row.status = status or row.status
    for create in decision.creates:
        rows[create.row.ref] = _Locked(create.row.version, 0, None, create.row.status)
    unfinished.update((a.ref.kind, a.ref.id, a.verb) for a in decision.acts)


async def _write(connection: AsyncConnection, result: Committed, now: float) -> None:
    decisions = result.accepted
    await _insert_rows(connection, decisions, now)
    await _update_rows(connection, decisions)
    await _write_acts(connection, decisions, now)
    await record_events(connection, [e for d in decisions for e in d.events], now)
    consumed = [i for d in decisions for i in d.consumes]
    if consumed:
        await connection.execute(_CONSUME, {"ids": consumed})
    wakes = {ref for d in decisions for ref in d.wakes}
    await wake(connection, wakes, now)
    result.probes = [p for d in decisions for p in d.probes]
    result.acts = sum(len(d.acts) for d in decisions)
    result.touched = (
        wakes | {c.ref for d in decisions for c in d.changes} | {c.row.ref for d in decisions for c in d.creates}
    )


async def _insert_rows(connection: AsyncConnection, decisions: Sequence[Decision], now: float) -> None:
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for n, decision in enumerate(decisions, 1):
        for create in decision.creates:
            by_kind[create.row.kind].append({**encode(create.row), "due_at": now})
        if n % BREATH == 0:
            await asyncio.sleep(0)
    for kind in ROW_TYPES:
        if by_kind[kind]:
            await connection.execute(insert(TABLES[kind]), by_kind[kind])
    # Before anybody can act for it: a machine that only one server reaches is that server's.
    bound = [
        {"instance_id": create.row.id, "only": create.row.offer.server_id}
        for decision in decisions
        for create in decision.creates
        if isinstance(create.row, Instance) and create.row.offer.server_id is not None
    ]
    if bound:
        await connection.execute(insert(host_link), bound)


async def _update_rows(connection: AsyncConnection, decisions: Sequence[Decision]) -> None:
    merged: dict[Ref, dict[str, Any]] = defaultdict(dict)
    steps: dict[Ref, int] = defaultdict(int)
    for n, decision in enumerate(decisions, 1):
        for change in decision.changes:
            cls = ROW_TYPES[change.ref.kind]
            merged[change.ref].update({k: encode_field(cls, k, v) for k, v in change.fields.items()})
            steps[change.ref] += 1
        if n % BREATH == 0:
            await asyncio.sleep(0)
    groups: dict[tuple[str, tuple[str, ...]], list[dict[str, Any]]] = defaultdict(list)
    for ref, values in merged.items():
        names = tuple(sorted(values))
        row = {f"v_{k}": v for k, v in values.items()}
        groups[ref.kind, names].append({"row_id": ref.id, "steps": steps[ref], **row})
    for (kind, names), rows in groups.items():
        await connection.execute(_update_of(kind, names), sorted(rows, key=lambda r: r["row_id"]))


async def _write_acts(connection: AsyncConnection, decisions: Sequence[Decision], now: float) -> None:
    settles = [(s.ref.kind, s.ref.id, s.verb) for d in decisions for s in d.settles]
    if settles:
        # A worker that holds the act just now runs it to its end; it is idempotent, and the decision waits.
        await connection.execute(
            delete(act).where(
                tuple_(act.c.kind, act.c.resource_id, act.c.verb).in_(settles),
                or_(act.c.claim_until.is_(None), act.c.claim_until <= now),
            )
        )
    rows = [
        {
            "token": a.token,
            "kind": a.ref.kind,
            "resource_id": a.ref.id,
            "verb": a.verb,
            "payload": json.dumps(dict(a.payload)),
            "created_at": now,
            "due_at": now,
        }
        for d in decisions
        for a in d.acts
    ]
    if rows:
        await connection.execute(insert(act), rows)


async def record_events(connection: AsyncConnection, events: Iterable[Event], now: float) -> None:
    """Store events with their targets."""
    rows, targets = [], []
    for one in events:
        id_ = new_id()
        rows.append({"id": id_, **one._asdict(), "recorded_at": now})
        rows[-1].pop("targets")
        targets += [
            {"event_id": id_, "position": n, "type": t.type, "target_id": t.id, "name": t.name}
            for n, t in enumerate(one.targets)
        ]
    if rows:
        await connection.execute(insert(event), rows)
    if targets:
        await connection.execute(insert(event_target), targets)


async def wake(connection: AsyncConnection, refs: Iterable[Ref], now: float) -> set[Ref]:
    """Make rows due; answers those that are not finished, the others are left alone.

    A row that is being decided just now is due again right after: no wake is lost.
    """
    woken: set[Ref] = set()
    by_kind: dict[str, list[str]] = defaultdict(list)
    for ref in refs:
        by_kind[ref.kind].append(ref.id)
    for kind in ROW_TYPES:
        if by_kind[kind]:
            found = await connection.execute(_WAKE[kind], {"ids": sorted(by_kind[kind]), "now": now})
            woken |= {Ref(kind, id_) for id_ in found.scalars()}
    return woken


async def _release(
    connection: AsyncConnection, released: Sequence[tuple[Claim, float | None]], rows: dict[Ref, _Locked], now: float
) -> None:
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    over: dict[str, list[str]] = defaultdict(list)
    for claim, wake_at in released:
        if _holds(claim, rows):
            terminal = rows[claim.ref].status in ROW_TYPES[claim.ref.kind].terminal_statuses()
            if terminal:
                over[claim.ref.kind].append(claim.ref.id)
            due = {"wake": None, "at": None} if terminal else {"wake": wake_at, "at": now}
            by_kind[claim.ref.kind].append({"row_id": claim.ref.id, "seen": claim.wake_seq, "held": claim.fence, **due})
    for kind, values in by_kind.items():
        await connection.execute(_RELEASE[kind], values)
    for kind, ids in over.items():
        # What came between load and commit: nobody will ever hear it.
        await connection.execute(_FORGET, {"kind": kind, "ids": ids})
