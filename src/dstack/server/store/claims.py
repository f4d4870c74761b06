"""Who works on which due row: claims with a lease and a fencing number, so that servers share the work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Table, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.row import Ref
from dstack.server.store.tables import TABLES, act


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of `owner` to decide one row until the lease ends. `wake_seq` tells wakes that come meanwhile."""

    ref: Ref
    owner: str
    fence: int
    wake_seq: int


async def claim_due(connection: AsyncConnection, now: float, owner: str, limit: int, lease_s: float) -> list[Claim]:
    """Claim up to `limit` due rows over all kinds, the longest due first within a kind."""
    claims: list[Claim] = []
    for kind, table in TABLES.items():
        room = limit - len(claims)
        if room <= 0:
            break
        rows = await connection.execute(
            update(table)
            .where(table.c.id.in_(_due_ids(table, "id", now, room)))
            .values(claimed_by=owner, claim_until=now + lease_s, fence=table.c.fence + 1)
            .returning(table.c.id, table.c.fence, table.c.wake_seq)
        )
        claims += [Claim(Ref(kind, id_), owner, fence, wake_seq) for id_, fence, wake_seq in rows]
    return claims


async def release(connection: AsyncConnection, claims: list[Claim], due_at: float) -> None:
    """Give rows back undecided; they are due again at `due_at`."""
    for claim in claims:
        table = TABLES[claim.ref.kind]
        await connection.execute(
            update(table)
            .where(table.c.id == claim.ref.id, table.c.claimed_by == claim.owner, table.c.fence == claim.fence)
            .values(claimed_by=None, claim_until=None, due_at=due_at)
        )


async def next_due(connection: AsyncConnection, tables: Iterable[Table]) -> float | None:
    """When the next row of the tables becomes due, claimed or not; None when there is none at all."""
    earliest: list[float] = []
    for table in tables:
        # A claimed row wakes us when its lease ends, should its owner have died.
        instant = func.max(table.c.due_at, func.coalesce(table.c.claim_until, 0.0))
        if connection.dialect.name != "sqlite":
            instant = func.greatest(table.c.due_at, func.coalesce(table.c.claim_until, 0.0))
        nearest = select(instant.label("at")).where(table.c.due_at.is_not(None)).order_by(table.c.due_at).limit(64)
        at = (await connection.execute(select(func.min(nearest.subquery().c.at)))).scalar()
        if at is not None:
            earliest.append(at)
    return min(earliest, default=None)


def _due_ids(table: Table, key: str, now: float, limit: int):
    unclaimed = or_(table.c.claim_until.is_(None), table.c.claim_until <= now)
    return (
        select(table.c[key])
        .where(table.c.due_at <= now, unclaimed)
        .order_by(table.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


due_ids = _due_ids


async def disown(connection: AsyncConnection, owner: str) -> None:
    """Drop all claims of `owner`: it starts anew and holds nothing."""
    for table in (*TABLES.values(), act):
        await connection.execute(
            update(table).where(table.c.claimed_by == owner).values(claimed_by=None, claim_until=None)
        )
