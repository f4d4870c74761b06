"""What was seen and done outside, recorded: acts that are over, and the inboxes of the resources that hear of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.row import Ref
from dstack.server.store.acts import ClaimedAct, Seen, hasten_acts
from dstack.server.store.commit import wake
from dstack.server.store.host_links import Hold, StaleHold, proven
from dstack.server.store.tables import ROW_TYPES, TABLES, act, inbox


@dataclass(frozen=True, slots=True)
class Retry:
    """The act is not over: it runs again then."""

    due_at: float
    error: str


@dataclass(eq=False, slots=True)
class Outcome:
    """`act`: it is over, unless there is a `retry`; `hold`: `seen` are what a host's holder saw there."""

    seen: Sequence[Seen]
    now: float
    act: ClaimedAct | None = None
    retry: Retry | None = None
    hold: Hold | None = None
    hasten: str | None = None  # an instance: acts on it and its jobs that wait for another try are due now


async def record(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> list[bool | Exception]:
    """Each counts alone, in their order: True when it is stored, False when its act's claim was lost meanwhile,
    StaleHold when another server holds its host by now."""
    held = await proven(connection, {one.hold for one in outcomes if one.hold is not None})
    results: list[bool | Exception] = [
        StaleHold(f"host {one.hold.instance_id} is held by another server")
        if one.hold is not None and one.hold not in held
        else True
        for one in outcomes
    ]
    told = [one for one, result in zip(outcomes, results, strict=True) if result is True]
    # In the order in which commits lock: what is touched and relied upon first.
    refs = {ref for one in told for ref, _ in one.seen} | {one.act.ref for one in told if one.act is not None}
    living = await _living(connection, refs)
    kept = await _end_acts(connection, told)
    for n, one in enumerate(outcomes):
        if one.act is not None and results[n] is True:
            results[n] = one.act.token in kept
            kept.discard(one.act.token)  # an act ends once
    over = [one for one, result in zip(outcomes, results, strict=True) if result is True]
    await _deliver(connection, over, living)
    hasten = {one.hasten: one.now for one in over if one.hasten is not None}
    if hasten:
        await hasten_acts(connection, sorted(hasten), max(hasten.values()))
    return results


# Locked in the order in which commits lock.
_LIVING = {
    kind: select(t.c.id)
    .where(t.c.id.in_(bindparam("ids", expanding=True)), t.c.due_at.is_not(None))
    .order_by(t.c.id)
    .with_for_update()
    for kind, t in TABLES.items()
}
_HELD = (
    select(act.c.token, act.c.claimed_by, act.c.fence)
    .where(act.c.token.in_(bindparam("tokens", expanding=True)))
    .order_by(act.c.token)
    .with_for_update()
)
_END = delete(act).where(act.c.token.in_(bindparam("tokens", expanding=True)))
_AGAIN = (
    update(act)
    .where(act.c.token == bindparam("of"))
    .values(
        attempts=act.c.attempts + 1,
        last_error=bindparam("error"),
        due_at=bindparam("due"),
        claimed_by=None,
        claim_until=None,
    )
)


async def _living(connection: AsyncConnection, refs: set[Ref]) -> set[Ref]:
    """Without those that are finished or unknown: nobody would ever consume what they hear."""
    found: set[Ref] = set()
    for kind in ROW_TYPES:
        ids = sorted(ref.id for ref in refs if ref.kind == kind)
        if ids:
            found |= {Ref(kind, id_) for id_ in (await connection.execute(_LIVING[kind], {"ids": ids})).scalars()}
    return found


async def _end_acts(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> set[str]:
    """Forget the acts that are over, put off those that are not; answers the tokens of those whose claim still held."""
    by_token = {one.act.token: one for one in reversed(outcomes) if one.act is not None}
    if not by_token:
        return set()
    found = (await connection.execute(_HELD, {"tokens": sorted(by_token)})).all()
    held = {
        row.token: by_token[row.token]
        for row in found
        if (act := by_token[row.token].act) is not None and (row.claimed_by, row.fence) == (act.owner, act.fence)
    }
    ended = sorted(token for token, one in held.items() if one.retry is None)
    if ended:
        await connection.execute(_END, {"tokens": ended})
    again = [{"of": t, "error": x.retry.error, "due": x.retry.due_at} for t, x in held.items() if x.retry is not None]
    if again:
        await connection.execute(_AGAIN, again)
    return set(held)


async def _deliver(connection: AsyncConnection, outcomes: Sequence[Outcome], living: set[Ref]) -> None:
    rows = [
        {"kind": ref.kind, "resource_id": ref.id, "observation": o.model_dump_json(exclude_defaults=False), "at": x.now}
        for x in outcomes
        for ref, o in x.seen
        if ref in living
    ]
    if rows:
        await connection.execute(insert(inbox), rows)
    # A resource is woken even without observations: it may have waited for its act to end.
    ended = {one.act.ref for one in outcomes if one.act is not None and one.retry is None}
    woken = living & (ended | {ref for one in outcomes for ref, _ in one.seen})
    if woken:
        await wake(connection, woken, min(one.now for one in outcomes))
