"""What services do with versioned rows: read sets, create them due, change them under a lock, tell the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.row import Ref, Row
from dstack.server.parts import Parts
from dstack.server.services.wire.values import seconds
from dstack.server.store.codec import decode, encode, encode_field
from dstack.server.store.tables import TABLES

R = TypeVar("R", bound=Row)


async def fetch(
    connection: AsyncConnection,
    cls: type[R],
    *conditions: Any,
    order: Sequence[Any] = (),
    limit: int | None = None,
    lock: bool = False,
) -> list[R]:
    """All rows of `cls` that meet the SQL conditions; `lock` keeps others from changing them in this transaction."""
    if lock and not order:
        order = (TABLES[cls.kind].c.id,)  # as commits lock: two that wait for each other would both have the other's
    statement = select(TABLES[cls.kind]).where(*conditions).order_by(*order)
    if limit is not None:
        statement = statement.limit(limit)
    if lock:
        statement = statement.with_for_update()
    return [decode(cls, m) for m in (await connection.execute(statement)).mappings()]


async def insert_rows(connection: AsyncConnection, rows: Sequence[Row], now: float) -> None:
    """New rows of one kind, due at once."""
    if rows:
        values = [{**encode(row), "due_at": None if row.terminal else now} for row in rows]
        await connection.execute(insert(TABLES[rows[0].kind]), values)


async def change_rows(connection: AsyncConnection, cls: type[Row], ids: Collection[str], **fields: Any) -> None:
    """Set the same fields of all rows; a decision that was made on the old version is refused and made anew."""
    if ids:
        table = TABLES[cls.kind]
        values = {name: encode_field(cls, name, value) for name, value in fields.items()}
        statement = update(table).where(table.c.id.in_(sorted(ids)))
        await connection.execute(statement.values(**values, version=table.c.version + 1))


def live(cls: type[Row]) -> Any:
    """The SQL condition of rows that are not finished."""
    return TABLES[cls.kind].c.status.not_in(sorted(cls.terminal_statuses()))


def after(
    time: ColumnElement[float], id_: ColumnElement[str], prev_at: datetime | None, prev_id: UUID | None, ascending: bool
) -> list[ColumnElement[bool]]:
    """The SQL conditions of the page that follows the row (prev_at, prev_id); none for the first page."""
    if prev_at is None:
        return []
    at: Any = seconds(prev_at)
    if prev_id is not None:
        # Clients have microseconds, rows have more: the row itself knows best where the page ended.
        exact = select(time).where(id_ == str(prev_id)).correlate(None).scalar_subquery()
        at = func.coalesce(exact, at)
    further = time > at if ascending else time < at
    if prev_id is None:
        return [further]
    tie = id_ > str(prev_id) if ascending else id_ < str(prev_id)
    return [or_(further, and_(time == at, tie))]


def paged(time: ColumnElement[float], id_: ColumnElement[Any], ascending: bool) -> tuple[ColumnElement, ColumnElement]:
    """The order that pages have: by time, newest first unless `ascending`."""
    return (time, id_) if ascending else (time.desc(), id_.desc())


def announce(parts: Parts, refs: Iterable[Ref]) -> None:
    """After a commit: wake those who watch the rows, and the engine."""
    parts.changes.publish([f"{ref.kind}:{ref.id}" for ref in refs])
    parts.engine.kick()
