"""Which server holds the link to which host: taken, given back, and proven in the transaction that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.instance import Instance, InstanceStatus
from dstack.server.store.codec import decode
from dstack.server.store.tables import TABLES, host_link

_INSTANCE = TABLES["instance"]
AT_ONCE = 200  # instances that are read and decoded in one go


@dataclass(frozen=True, slots=True)
class Hold:
    """The right of one server to act for a host and to report what it sees there."""

    instance_id: str
    server_id: str
    epoch: int


class StaleHold(Exception):
    """Another server holds the host by now: nothing was written."""


@dataclass(frozen=True, slots=True)
class Linkable:
    """`free`: this server may take its link now."""

    instance: Instance
    free: bool


_PROVEN = (
    select(host_link.c.instance_id, host_link.c.server_id, host_link.c.epoch)
    .where(host_link.c.instance_id.in_(bindparam("ids", expanding=True)))
    .order_by(host_link.c.instance_id)
    .with_for_update(read=True)
)


async def proven(connection: AsyncConnection, holds: Collection[Hold]) -> set[Hold]:
    """Those that are the newest of their hosts; they stay so until the transaction ends."""
    if not holds:
        return set()
    found = await connection.execute(_PROVEN, {"ids": sorted({hold.instance_id for hold in holds})})
    return {Hold(row.instance_id, row.server_id, row.epoch) for row in found} & set(holds)


async def prove(connection: AsyncConnection, hold: Hold) -> None:
    """Raises StaleHold unless `hold` is the newest; it stays so until the transaction ends."""
    if not await proven(connection, [hold]):
        raise StaleHold(f"host {hold.instance_id} is held by another server")


async def linkable(connection: AsyncConnection, server_id: str, ids: Collection[str] | None) -> list[Linkable]:
    """The instances of these ids; None: all that are free. Others have their turn meanwhile: they may be thousands."""
    t = host_link.c
    free = and_(t.server_id.is_(None), or_(t.only.is_(None), t.only == server_id))
    joined = _INSTANCE.outerjoin(host_link, t.instance_id == _INSTANCE.c.id)
    if ids is None:
        living = and_(_INSTANCE.c.status != InstanceStatus.TERMINATED, _INSTANCE.c.data.is_not(None))
        ids = (await connection.execute(select(_INSTANCE.c.id).select_from(joined).where(living, free))).scalars().all()
    wanted = sorted(ids)
    result: list[Linkable] = []
    for start in range(0, len(wanted), AT_ONCE):
        some = _INSTANCE.c.id.in_(wanted[start : start + AT_ONCE])
        found = await connection.execute(select(_INSTANCE, free.label("free")).select_from(joined).where(some))
        result += [Linkable(decode(Instance, m), bool(m["free"])) for m in found.mappings()]
        await asyncio.sleep(0)
    return result


async def gone(connection: AsyncConnection, server_id: str) -> list[str]:
    """The ids of the instances that have no machine any more although this server holds their hosts."""
    joined = _INSTANCE.join(host_link, host_link.c.instance_id == _INSTANCE.c.id)
    no_machine = or_(_INSTANCE.c.status == InstanceStatus.TERMINATED, _INSTANCE.c.data.is_(None))
    statement = select(_INSTANCE.c.id).select_from(joined).where(host_link.c.server_id == server_id, no_machine)
    return list((await connection.execute(statement)).scalars())


async def take(connection: AsyncConnection, server_id: str, ids: Sequence[str]) -> list[Hold]:
    """Hold those of the hosts that nobody holds, each under a new epoch."""
    if not ids:
        return []
    insert = sqlite_insert if connection.dialect.name == "sqlite" else pg_insert
    rows = [{"instance_id": id_, "server_id": server_id, "epoch": 1} for id_ in sorted(ids)]
    t = host_link.c
    statement: Any = insert(host_link)
    statement = statement.on_conflict_do_update(
        index_elements=["instance_id"],
        set_={"server_id": server_id, "epoch": t.epoch + 1},
        where=and_(t.server_id.is_(None), or_(t.only.is_(None), t.only == server_id)),
    ).returning(t.instance_id, t.epoch)
    return [Hold(row.instance_id, server_id, row.epoch) for row in await connection.execute(statement, rows)]


async def give_back(connection: AsyncConnection, holds: Collection[Hold]) -> None:
    """Let the hosts go; others take them."""
    for hold in sorted(holds, key=lambda h: h.instance_id):
        t = host_link.c
        mine = and_(t.instance_id == hold.instance_id, t.server_id == hold.server_id, t.epoch == hold.epoch)
        await connection.execute(update(host_link).where(mine).values(server_id=None))


async def let_go(connection: AsyncConnection, server_id: str, ids: Sequence[str]) -> None:
    """Those of these hosts that this server holds, under whatever epoch."""
    mine = and_(host_link.c.instance_id == bindparam("of"), host_link.c.server_id == server_id)
    if ids:
        await connection.execute(
            update(host_link).where(mine).values(server_id=None), [{"of": id_} for id_ in sorted(ids)]
        )


async def give_back_all(connection: AsyncConnection, server_ids: Collection[str]) -> None:
    """Let go of what these servers hold, and forget the links of machines that are gone."""
    wanted = host_link.c.server_id.in_(sorted(server_ids))
    await connection.execute(update(host_link).where(wanted).values(server_id=None))
    living = select(_INSTANCE.c.id).where(_INSTANCE.c.status != InstanceStatus.TERMINATED)
    gone = and_(host_link.c.server_id.is_(None), host_link.c.instance_id.not_in(living))
    await connection.execute(delete(host_link).where(gone))


async def forget(connection: AsyncConnection, hold: Hold) -> None:
    """The machine is gone."""
    t = host_link.c
    await connection.execute(
        delete(host_link).where(t.instance_id == hold.instance_id, t.server_id == hold.server_id, t.epoch == hold.epoch)
    )


async def counts(connection: AsyncConnection) -> dict[str, int]:
    """How many hosts that anybody may hold each server holds."""
    statement = select(host_link.c.server_id, func.count()).where(
        host_link.c.server_id.is_not(None), host_link.c.only.is_(None)
    )
    found = await connection.execute(statement.group_by(host_link.c.server_id))
    return {server_id: count for server_id, count in found}
