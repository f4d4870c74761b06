"""The servers of one database: each says that it lives; what a dead one held is given to the others at once.

Leases are measured by the database's clock on PostgreSQL: the servers' own may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Float, cast, extract, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError
from dstack.server.store import host_links
from dstack.server.store.claims import disown
from dstack.server.store.tables import server

LEASE_S = 6.0


@dataclass(frozen=True)
class Member:
    """One process of a server. `id` stays the same after restarts, `session` does not. `name` is for people."""

    id: str
    session: str
    name: str
    version: str


class Pulse(StrEnum):
    """What a server finds when it says that it lives."""

    ALIVE = "alive"
    BURIED = "buried"  # it was silent for too long: it holds nothing any more
    REPLACED = "replaced"  # another process has its id


@dataclass(frozen=True)
class Others:
    """The other servers that live, by id, and the names of those that were found dead just now."""

    alive: tuple[str, ...] = ()
    buried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A server as the database knows it. `live`: it says so, and its lease is not over."""

    name: str
    version: str
    live: bool
    started_at: float
    last_seen: float


async def join(connection: AsyncConnection, me: Member, now: float) -> None:
    """Take up work as this process: what an earlier one of the same id held is free.

    Raises DstackError while a server lives elsewhere under the same id.
    """
    at = _clock(connection, now)
    live = (server.c.until > at).label("live")
    statement = select(server.c.name, live).where(server.c.id == me.id).with_for_update()
    known = (await connection.execute(statement)).first()
    if known is not None and known.live and known.name != me.name:
        raise DstackError(
            f"The server of this folder already runs as {known.name}",
            hint=f"a copied folder needs an id of its own: delete server.id in it. "
            f"If it was moved, start again in {LEASE_S:.0f} seconds",
        )
    # On SQLite nobody else can be there: no lease, nothing to renew.
    until = None if _alone(connection) else at + LEASE_S
    values = {"session": me.session, "name": me.name, "version": me.version}
    values |= {"started_at": now, "last_seen": now, "until": until}
    if known is None:
        await connection.execute(insert(server).values(id=me.id, **values))
    else:
        await connection.execute(update(server).where(server.c.id == me.id).values(**values))
    await _free(connection, [me.id])


async def beat(
    connection: AsyncConnection, me: Member, now: float, lease_s: float, slack_s: Callable[[], float]
) -> tuple[Pulse, Others]:
    """Say that this server lives, and see who else does; those who do not lose what they held.

    `slack_s`: how long after its lease another one still is taken to live, asked for when they are looked at.
    """
    at = _clock(connection, now)
    own = (server.c.id == me.id) & (server.c.session == me.session)
    found = (await connection.execute(select(server.c.until).where(own).with_for_update())).first()
    if found is None:
        return Pulse.REPLACED, Others()
    if found.until is None:
        await _free(connection, [me.id])
    await connection.execute(update(server).where(own).values(until=at + lease_s, last_seen=now))
    late = at - slack_s()
    rows = (
        await connection.execute(
            select(server.c.id, (server.c.until > late).label("live")).where(
                server.c.until.is_not(None), server.c.id != me.id
            )
        )
    ).all()
    buried = await _bury(connection, late) if any(not row.live for row in rows) else ()
    alive = tuple(sorted(row.id for row in rows if row.live))
    return (Pulse.BURIED if found.until is None else Pulse.ALIVE), Others(alive, buried)


async def leave(connection: AsyncConnection, me: Member) -> None:
    """Give back everything at once: this server stops."""
    own = (server.c.id == me.id) & (server.c.session == me.session)
    found = await connection.execute(update(server).where(own).values(until=None).returning(server.c.id))
    if found.first() is not None:
        await _free(connection, [me.id])


async def known(connection: AsyncConnection, now: float) -> list[Seen]:
    """All that ever worked on this database, those that live first. On SQLite none is known to live."""
    live = func.coalesce(server.c.until > _clock(connection, now), False).label("live")
    columns = (server.c.name, server.c.version, server.c.started_at, server.c.last_seen, live)
    rows = await connection.execute(select(*columns).order_by(live.desc(), server.c.name))
    return [Seen(one.name, one.version, bool(one.live), one.started_at, one.last_seen) for one in rows]


async def living(connection: AsyncConnection, me: str, now: float) -> list[str]:
    """The names of the other servers that live."""
    at = _clock(connection, now)
    statement = select(server.c.name).where(server.c.id != me, server.c.until > at).order_by(server.c.name)
    return list((await connection.execute(statement)).scalars())


async def _bury(connection: AsyncConnection, at: Any) -> tuple[str, ...]:
    dead = select(server.c.id, server.c.name).where(server.c.until <= at).with_for_update(skip_locked=True)
    found = (await connection.execute(dead)).all()
    ids = [one.id for one in found]
    if ids:
        await connection.execute(update(server).where(server.c.id.in_(ids)).values(until=None))
        await _free(connection, ids)
    return tuple(one.name for one in found)


async def _free(connection: AsyncConnection, ids: list[str]) -> None:
    await host_links.give_back_all(connection, ids)
    for id_ in ids:
        await disown(connection, id_)


def _alone(connection: AsyncConnection) -> bool:
    return connection.dialect.name == "sqlite"


def _clock(connection: AsyncConnection, now: float) -> Any:
    return literal(now) if _alone(connection) else cast(extract("epoch", func.clock_timestamp()), Float)
