"""Single rows by id."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import select

from dstack.errors import ResourceNotFound
from dstack.model.row import Row
from dstack.server.store.codec import decode
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES, project

R = TypeVar("R", bound=Row)


async def row(database: Database, cls: type[R], id_: str) -> R:
    """The row as it is now. Raises ResourceNotFound."""
    table = TABLES[cls.kind]
    async with database.read() as connection:
        found = (await connection.execute(select(table).where(table.c.id == id_))).mappings().first()
    if found is None:
        raise ResourceNotFound(f"{cls.kind} {id_} does not exist")
    return decode(cls, found)


async def project_name(database: Database, project_id: str) -> str:
    async with database.read() as connection:
        name = (await connection.execute(select(project.c.name).where(project.c.id == project_id))).scalar()
    return name or ""
