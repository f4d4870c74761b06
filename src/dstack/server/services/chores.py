"""The rows of the server's own work: one sweep for each backend that has machines, one retention for all."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.chore.decide import FIRST_S
from dstack.ids import derived_id
from dstack.model.chore import Chore, ChoreName, ChoreStatus
from dstack.server.store.codec import encode
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES, backend

_chore = TABLES["chore"]
# Of the server's own backends: hosts that people own are not made or ended by us.
SWEPT_OWN = frozenset({"local"})


async def begin_all(database: Database, now: float, owner: str, own: Collection[str]) -> None:
    """What must be there is there, whatever a start before us did. `own`: types that the server `owner` has itself."""
    async with database.write() as connection:
        await _begin(connection, _retention(now))
        for type_ in sorted(SWEPT_OWN & set(own)):
            await _begin(connection, _sweep("", type_, now, server=owner))
        stored = await connection.execute(select(backend.c.project_id, backend.c.type))
        for project_id, type_ in stored.all():
            await begin_sweep(connection, project_id, type_, now)


async def begin_sweep(connection: AsyncConnection, project_id: str, type_: str, now: float) -> None:
    """The project has this backend from now on."""
    await _begin(connection, _sweep(project_id, type_, now))


async def _begin(connection: AsyncConnection, chore: Chore) -> None:
    """Leave one that runs alone; one that was closed begins anew, counting on: no version of a row tells of two rows,
    and no two of its rounds make the same ids."""
    known = select(_chore.c.status, _chore.c.version, _chore.c.rounds).where(_chore.c.id == chore.id)
    before = (await connection.execute(known)).first()
    if before is not None and before.status == ChoreStatus.ACTIVE:
        return
    if before is not None:
        await connection.execute(delete(_chore).where(_chore.c.id == chore.id))
        chore = chore.replace(version=before.version + 1, rounds=before.rounds)
    await connection.execute(insert(_chore).values(**encode(chore), due_at=chore.next_at))


def _retention(now: float) -> Chore:
    name = ChoreName.RETENTION
    id_ = derived_id("server", "chore", str(name))
    return Chore(id=id_, project_id="", created_at=now, name=name, next_at=now + FIRST_S[name])


def _sweep(project_id: str, type_: str, now: float, server: str = "") -> Chore:
    name = ChoreName.SWEEP
    return Chore(
        id=derived_id(project_id or server, "chore", f"{name}:{type_}"),
        project_id=project_id,
        created_at=now,
        name=name,
        backend=type_,
        server=server,
        next_at=now + FIRST_S[name],
    )
