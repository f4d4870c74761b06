"""Events: who did what to which resource, filtered and paged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.wire.requests import ListEvents
from dstack.server.auth.identity import User
from dstack.server.parts import Parts
from dstack.server.services.projects import visible_projects
from dstack.server.services.rows import after, paged
from dstack.server.services.wire.values import stamp
from dstack.server.store.tables import TABLES, event, event_target, project, user

# Filters `target_<plural>`: the event is about one of these.
_TARGETS = (
    "projects",
    "users",
    "fleets",
    "instances",
    "runs",
    "jobs",
    "volumes",
    "gateways",
    "gateway_replicas",
    "secrets",
    "presets",
)


async def list_events(parts: Parts, caller: User, query: ListEvents) -> list[dict[str, Any]]:
    """A page of the events that the caller may see, the newest first unless `ascending`."""
    async with parts.database.read() as connection:
        visible = await visible_projects(connection, caller)
        conditions = [_visible(caller, visible), *_filters(query), *_page(query)]
        order = paged(event.c.recorded_at, event.c.seq, query.ascending)
        statement = select(event).where(*conditions).order_by(*order).limit(query.limit)
        rows = (await connection.execute(statement)).all()
        targets = await _targets(connection, [row.id for row in rows])
        actors = await _names(connection, user.c.id, user.c.username, {row.actor_id for row in rows})
        projects = await _names(connection, project.c.id, project.c.name, {row.project_id for row in rows})
    return [_render(row, targets[row.id], actors, projects) for row in rows]


def _visible(caller: User, projects: Iterable[str]) -> Any:
    """Events of one's projects; those of no project are seen by admins and by who did them."""
    if caller.is_admin:
        return event.c.seq.is_not(None)
    own = and_(event.c.project_id.is_(None), event.c.actor_id == caller.id)
    return or_(event.c.project_id.in_(sorted(projects)), own)


def _filters(query: ListEvents) -> list[Any]:
    conditions: list[Any] = []
    for name in _TARGETS:
        ids: list[UUID] | None = getattr(query, f"target_{name}")
        if ids is not None:
            conditions.append(_about(event_target.c.target_id.in_(_text(ids))))
    if query.within_projects is not None:
        conditions.append(event.c.project_id.in_(_text(query.within_projects)))
    if query.within_runs is not None:
        conditions.append(_within(query.within_runs, "job", TABLES["job"].c.run_id))
    if query.within_fleets is not None:
        conditions.append(_within(query.within_fleets, "instance", TABLES["instance"].c.fleet_id))
    if query.within_gateways is not None:
        conditions.append(_about(event_target.c.target_id.in_(_text(query.within_gateways))))
    if query.include_target_types is not None:
        conditions.append(_about(event_target.c.type.in_(query.include_target_types)))
    if query.actors is not None:
        known = event.c.actor_id.in_([str(one) for one in query.actors if one is not None])
        conditions.append(or_(known, event.c.actor_id.is_(None)) if None in query.actors else known)
    return conditions


def _about(condition: Any) -> Any:
    return event.c.id.in_(select(event_target.c.event_id).where(condition))


def _within(ids: Sequence[UUID], child: str, parent: Any) -> Any:
    """About one of the resources, or about one of their parts."""
    parts = select(TABLES[child].c.id).where(parent.in_(_text(ids)))
    return _about(or_(event_target.c.target_id.in_(_text(ids)), event_target.c.target_id.in_(parts)))


def _page(query: ListEvents) -> list[Any]:
    if query.prev_id is None or query.prev_recorded_at is None:
        return after(event.c.recorded_at, event.c.id, query.prev_recorded_at, None, query.ascending)
    last = select(event.c.seq).where(event.c.id == str(query.prev_id)).correlate(None).scalar_subquery()
    exact = select(event.c.recorded_at).where(event.c.id == str(query.prev_id)).correlate(None).scalar_subquery()
    further = event.c.recorded_at > exact if query.ascending else event.c.recorded_at < exact
    tie = event.c.seq > last if query.ascending else event.c.seq < last
    return [or_(further, and_(event.c.recorded_at == exact, tie))]


async def _targets(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, list[Any]]:
    targets: dict[str, list[Any]] = defaultdict(list)
    if ids:
        statement = select(event_target).where(event_target.c.event_id.in_(ids)).order_by(event_target.c.position)
        for row in await connection.execute(statement):
            targets[row.event_id].append(row)
    return targets


async def _names(connection: AsyncConnection, key: Any, column: Any, ids: set[str | None]) -> dict[str, str]:
    wanted = sorted(id_ for id_ in ids if id_ is not None)
    if not wanted:
        return {}
    return {id_: name for id_, name in await connection.execute(select(key, column).where(key.in_(wanted)))}


def _render(row: Any, targets: Sequence[Any], actors: dict[str, str], projects: dict[str, str]) -> dict[str, Any]:
    return {
        "id": row.id,
        "message": row.message,
        "recorded_at": stamp(row.recorded_at),
        "actor_user_id": row.actor_id,
        "actor_user": actors.get(row.actor_id) if row.actor_id else None,
        "is_actor_user_deleted": row.actor_id not in actors if row.actor_id else None,
        "targets": [
            {
                "type": target.type,
                "project_id": row.project_id,
                "project_name": projects.get(row.project_id) if row.project_id else None,
                "is_project_deleted": row.project_id not in projects if row.project_id else None,
                "id": target.target_id,
                "name": target.name,
            }
            for target in targets
        ],
    }


def _text(ids: Sequence[UUID]) -> list[str]:
    return [str(one) for one in ids]
