"""Machines that no living instance answers for: listed, terminated or settled by the admins of the server."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control import wording
from dstack.errors import DstackError, ResourceNotFound
from dstack.model.event import Event
from dstack.model.instance import InstanceStatus
from dstack.model.orphan import Orphan
from dstack.server.auth.identity import User
from dstack.server.parts import Parts
from dstack.server.services.rows import announce, change_rows, fetch, live
from dstack.server.services.wire.values import stamp
from dstack.server.store.commit import record_events, wake
from dstack.server.store.tables import TABLES, act, project

orphan_t = TABLES["orphan"]


async def list_orphans(parts: Parts) -> list[dict[str, Any]]:
    """Those that are not settled, the oldest first."""
    async with parts.database.read() as connection:
        rows = await fetch(connection, Orphan, live(Orphan), order=(orphan_t.c.first_seen, orphan_t.c.id))
        ids = {row.project_id for row in rows}
        names = await connection.execute(select(project.c.id, project.c.name).where(project.c.id.in_(sorted(ids))))
        projects = {id_: name for id_, name in names}
        tried = select(act.c.resource_id, act.c.last_error).where(act.c.kind == Orphan.kind)
        errors = {id_: error for id_, error in await connection.execute(tried)}
    return [_render(row, projects.get(row.project_id), errors.get(row.id)) for row in rows]


async def terminate(parts: Parts, caller: User, token: str) -> None:
    """Have the machine ended. Raises ResourceNotFound, or DstackError when an instance answers for it after all."""
    now = parts.clock.now()
    async with parts.database.write() as connection:
        one = await _find(connection, token)
        if await _answered_for(connection, one):
            raise DstackError(
                f"An instance answers for the {one.label}: it is no orphan any more",
                hint="`dstack fleet delete FLEET -i NUM` ends an instance",
            )
        await change_rows(connection, Orphan, [one.id], terminate_requested_at=now)
        await _recorded(
            connection, parts, caller, one, f"Termination of the orphaned machine {one.backend_id} requested"
        )
    announce(parts, [one.ref])


async def settle(parts: Parts, caller: User, token: str) -> None:
    """Take it off the list on a person's word. Raises ResourceNotFound."""
    now = parts.clock.now()
    async with parts.database.write() as connection:
        one = await _find(connection, token)
        await change_rows(connection, Orphan, [one.id], settle_requested_at=now)
        await _recorded(connection, parts, caller, one, f"Orphaned machine {one.backend_id} said to be settled")
    announce(parts, [one.ref])


async def _find(connection: AsyncConnection, token: str) -> Orphan:
    rows = await fetch(connection, Orphan, orphan_t.c.token == token, live(Orphan), lock=True, limit=1)
    if not rows:
        raise ResourceNotFound(f"There is no orphaned machine {token}", hint="`dstack server orphans` lists them")
    return rows[0]


async def _answered_for(connection: AsyncConnection, one: Orphan) -> bool:
    """Only what was found by its instance can be asked for here; the sweep and the act look at all the others."""
    if one.instance_id is None:
        return False
    instance = TABLES["instance"]
    status = (await connection.execute(select(instance.c.status).where(instance.c.id == one.instance_id))).scalar()
    return status is not None and status != InstanceStatus.TERMINATED


async def _recorded(connection: AsyncConnection, parts: Parts, caller: User, one: Orphan, text: str) -> None:
    now = parts.clock.now()
    await record_events(connection, [Event(text, (wording.target(one),), caller.id, one.project_id or None)], now)
    await wake(connection, [one.ref], now)


def _render(row: Orphan, project_name: str | None, error: str | None) -> dict[str, Any]:
    return {
        "token": row.token,
        "status": str(row.status),
        "origin": str(row.origin),
        "backend": row.backend,
        "backend_id": row.backend_id,
        "project_name": project_name,
        "instance_name": row.instance_name,
        "first_seen": stamp(row.first_seen),
        "machine_created_at": stamp(row.machine_created_at) if row.machine_created_at is not None else None,
        "last_error": error or None,
    }
