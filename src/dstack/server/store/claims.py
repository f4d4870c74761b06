"""Who works on which due row: claims with a lease and a fencing number, so that servers share the work."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, bindparam, case, func, literal, or_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.row import Ref
from dstack.server.store.tables import ROW_TYPES, TABLES, act


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of `owner` to decide one row until the lease ends. `wake_seq` tells wakes that come meanwhile."""

    ref: Ref
    owner: str
    fence: int
    wake_seq: int


def unclaimed_due(table: Table) -> Any:
    """The condition of rows that are due at `:now` and that nobody holds."""
    now = bindparam("now")
    return (table.c.due_at <= now) & or_(table.c.claim_until.is_(None), table.c.claim_until <= now)


def claiming(table: Table, key: str, *returning: Any) -> Any:
    """Claim those of `:ids` that are still free."""
    return (
        update(table)
        .where(table.c[key].in_(bindparam("ids", expanding=True)), unclaimed_due(table))
        .values(claimed_by=bindparam("owner"), claim_until=bindparam("until"), fence=table.c.fence + 1)
        .returning(*returning)
    )


# Built once: composing a statement costs more than SQLite needs to run it.
_DUE = (
    union_all(
        *(
            select(literal(kind).label("kind"), t.c.id, t.c.due_at.label("at")).where(unclaimed_due(t))
            for kind, t in TABLES.items()
        )
    )
    .order_by("at")
    .limit(bindparam("limit"))
)
_CLAIM = {kind: claiming(t, "id", t.c.id, t.c.fence, t.c.wake_seq) for kind, t in TABLES.items()}


async def claim_due(connection: AsyncConnection, now: float, owner: str, limit: int, lease_s: float) -> list[Claim]:
    """Claim up to `limit` due rows over all kinds, the longest due first."""
    due: dict[str, list[str]] = defaultdict(list)
    for found in await connection.execute(_DUE, {"now": now, "limit": limit}):
        due[found.kind].append(found.id)
    claims: list[Claim] = []
    for kind in ROW_TYPES:  # in the order in which commits lock
        ids = due[kind]
        if not ids:
            continue
        # Another server may have been quicker with some of them.
        values = {"ids": ids, "now": now, "owner": owner, "until": now + lease_s}
        rows = await connection.execute(_CLAIM[kind], values)
        claims += [Claim(Ref(kind, one.id), owner, one.fence, one.wake_seq) for one in rows]
    return claims


async def release(connection: AsyncConnection, claims: list[Claim], due_at: float) -> None:
    """Give rows back undecided; they are due again at `due_at`."""
    for claim in sorted(claims, key=lambda one: one.ref):  # in the order in which commits lock
        table = TABLES[claim.ref.kind]
        await connection.execute(
            update(table)
            .where(table.c.id == claim.ref.id, table.c.claimed_by == claim.owner, table.c.fence == claim.fence)
            .values(claimed_by=None, claim_until=None, due_at=due_at)
        )


async def disown(connection: AsyncConnection, owner: str) -> None:
    """Drop all claims of `owner`: it starts anew and holds nothing."""
    for table in (*TABLES.values(), act):
        await connection.execute(
            update(table).where(table.c.claimed_by == owner).values(claimed_by=None, claim_until=None)
        )


def _soonest(t: Table, source: Any = None, condition: Any = None) -> Any:
    """The instants at which rows of `t` can be claimed, the earliest ones."""
    # A claimed row wakes us when its lease ends, should its owner have died.
    held = func.coalesce(t.c.claim_until, 0.0)
    at = case((held > t.c.due_at, held), else_=t.c.due_at)
    found = select(at.label("at")).select_from(t if source is None else source).where(t.c.due_at.is_not(None))
    if condition is not None:
        found = found.where(condition)
    return found.order_by(t.c.due_at).limit(64).subquery()


def earliest(table: Table, source: Any = None, condition: Any = None) -> Any:
    """Asks when the next row that meets the condition over `source` can be claimed."""
    return select(func.min(_soonest(table, source, condition).c.at))


_NEXT_ROW = select(func.min(union_all(*(select(_soonest(t).c.at) for t in TABLES.values())).subquery().c.at))


async def next_due(connection: AsyncConnection) -> float | None:
    """When the next row becomes due, claimed or not; None when there is none at all."""
    return (await connection.execute(_NEXT_ROW)).scalar()
