"""Projects and their members."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.run.decide import queue_ref
from dstack.errors import AccessDenied, DstackError, ResourceExists, ResourceNotFound
from dstack.model.event import Event, EventTarget
from dstack.model.fleet import Fleet
from dstack.model.run import Run
from dstack.model.wire.requests import PROJECT_NAME, CreateProject, ListProjects, UpdateProject
from dstack.server.auth.identity import (
    PROJECT_COLUMNS,
    USER_COLUMNS,
    Access,
    Project,
    User,
    project_of,
    user_of,
)
from dstack.server.auth.rules import quota as allowed
from dstack.server.parts import Parts
from dstack.server.services import backend_settings
from dstack.server.services.bootstrap import insert_project
from dstack.server.services.members import members_of, record
from dstack.server.services.rows import after, fetch, live, paged
from dstack.server.services.wire import people
from dstack.server.store.commit import record_events
from dstack.server.store.tables import TABLES, member, project, user


async def visible_projects(connection: AsyncConnection, caller: User, name: str | None = None) -> dict[str, str]:
    """Names by id of the projects that the caller belongs to, of all for a global admin; `name` keeps only that one."""
    statement = select(project.c.id, project.c.name)
    if not caller.is_admin:
        joined = and_(member.c.project_id == project.c.id, member.c.user_id == caller.id)
        statement = statement.join(member, joined)
    if name is not None:
        statement = statement.where(project.c.name == name)
    return {id_: found for id_, found in await connection.execute(statement)}


async def list_projects(parts: Parts, caller: User, query: ListProjects) -> Any:
    """Rendered projects, the newest first unless `ascending`; members only when a username is asked for."""
    async with parts.database.read() as connection:
        visible = await visible_projects(connection, caller)
        condition = project.c.id.in_(sorted(visible))
        if query.include_not_joined and query.username is None:
            condition = or_(condition, project.c.is_public)
        conditions = [condition]
        if query.username is not None:
            asked = user.alias()
            of_user = select(member.c.project_id).join(asked, asked.c.id == member.c.user_id)
            of_user = of_user.where(asked.c.username == query.username)
            conditions.append(or_(project.c.id.in_(of_user), user.c.username == query.username))
        if query.name_pattern:
            conditions.append(project.c.name.icontains(query.name_pattern, autoescape=True))
        found = await _with_owners(connection, conditions, query)
        members = await members_of(connection, [p.id for p, _ in found], query.username) if query.username else {}
        total = len(await _with_owners(connection, conditions, None)) if query.return_total_count else None
        configs = await backend_settings.configs_of(parts, connection, [p.id for p, _ in found])
    rules = parts.settings.rules
    rendered = [people.project(p, rules, owner, members.get(p.id, ()), configs[p.id]) for p, owner in found]
    return {"projects": rendered, "total_count": total} if query.return_total_count else rendered


async def render(parts: Parts, project_id: str) -> dict[str, Any]:
    async with parts.database.read() as connection:
        found = await _with_owners(connection, [project.c.id == project_id], None)
        members = await members_of(connection, [project_id])
        configs = await backend_settings.configs_of(parts, connection, [project_id])
    if not found:
        raise ResourceNotFound("The project does not exist any more")
    value, owner = found[0]
    return people.project(value, parts.settings.rules, owner, members[project_id], configs[project_id])


async def create(parts: Parts, caller: User, request: CreateProject) -> dict[str, Any]:
    """Raises ResourceExists, AccessDenied, or DstackError when the name is not legal or the caller has enough."""
    if not re.fullmatch(PROJECT_NAME, request.project_name, re.ASCII):
        raise DstackError(f"{request.project_name!r} is not a project name, expected 1 to 50 letters, digits, `-`, `_`")
    now = parts.clock.now()
    async with parts.database.write() as connection:
        await _check_quota(connection, parts, caller)
        if (await connection.execute(select(project.c.id).where(project.c.name == request.project_name))).first():
            raise ResourceExists(f"The project {request.project_name} exists already")
        id_ = await insert_project(connection, now, request.project_name, caller.id, request.is_public)
        if request.templates_repo is not None:
            await _set(connection, id_, templates_repo=request.templates_repo)
        target = EventTarget("project", id_, request.project_name)
        await record_events(connection, [Event("Project created", (target,), caller.id, id_)], now)
    return await render(parts, id_)


async def update_settings(parts: Parts, access: Access, request: UpdateProject) -> dict[str, Any]:
    """Changes what the request names."""
    changed: dict[str, Any] = {}
    if request.is_public is not None:
        changed["is_public"] = request.is_public
    if request.templates_repo is not None or request.reset_templates_repo:
        changed["templates_repo"] = None if request.reset_templates_repo else request.templates_repo
    if changed:
        async with parts.database.write() as connection:
            await _set(connection, access.project.id, **changed)
            words = {True: ". It is public now", False: ". It is private now", None: ""}
            await record(connection, parts, access, f"Project updated{words[request.is_public]}")
    return await render(parts, access.project.id)


async def delete_projects(parts: Parts, caller: User, names: Sequence[str]) -> None:
    """Raises DstackError for unknown projects and for those that still have runs or fleets; AccessDenied."""
    now = parts.clock.now()
    async with parts.database.write() as connection:
        # Locked: what is being submitted meanwhile is in time to be found below, or finds no project any more.
        statement = select(*PROJECT_COLUMNS).where(project.c.name.in_(sorted(set(names)))).order_by(project.c.id)
        found = [project_of(row) for row in await connection.execute(statement.with_for_update())]
        absent = sorted(set(names) - {one.name for one in found})
        if absent:
            raise DstackError(f"Projects not found: {', '.join(absent)}")
        if not caller.is_admin:
            await _check_admin(connection, caller, found)
        ids = [one.id for one in found]
        await _check_empty(connection, found)
        queue = TABLES["queue"]
        await connection.execute(delete(queue).where(queue.c.id.in_([queue_ref(id_).id for id_ in ids])))
        await connection.execute(delete(project).where(project.c.id.in_(ids)))
        events = [Event("Project deleted", (EventTarget("project", p.id, p.name),), caller.id, p.id) for p in found]
        await record_events(connection, events, now)


async def hold_project(connection: AsyncConnection, access: Access) -> None:
    """Nobody deletes the project before this transaction ends. Raises ResourceNotFound when somebody has.

    Without it a run could be submitted into a project that is gone, where nothing would ever look at it.
    """
    held = select(project.c.id).where(project.c.id == access.project.id).with_for_update(read=True)
    if (await connection.execute(held)).first() is None:
        raise ResourceNotFound("The project does not exist any more")


async def list_without_fleets(parts: Parts, caller: User) -> list[dict[str, Any]]:
    """The caller's projects in which a run has nowhere to go, the newest first."""
    fleet = TABLES["fleet"]
    with_fleets = select(fleet.c.project_id).where(live(Fleet))
    async with parts.database.read() as connection:
        own = project.c.id.in_(sorted(await visible_projects(connection, caller)))
        found = await _with_owners(connection, [own, project.c.id.not_in(with_fleets)], None)
    return [people.project(one, parts.settings.rules, owner, ()) for one, owner in found]


async def _with_owners(
    connection: AsyncConnection, conditions: Iterable[Any], page: ListProjects | None
) -> list[tuple[Project, User]]:
    statement = select(*PROJECT_COLUMNS, *USER_COLUMNS).join(user, user.c.id == project.c.owner_id).where(*conditions)
    columns = (project.c.created_at, project.c.id)
    if page is not None:
        statement = statement.where(*after(*columns, page.prev_created_at, page.prev_id, page.ascending))
        statement = statement.limit(page.limit)
    statement = statement.order_by(*paged(*columns, page is not None and page.ascending))
    return [(project_of(row), user_of(row)) for row in await connection.execute(statement)]


async def _check_admin(connection: AsyncConnection, caller: User, projects: Sequence[Project]) -> None:
    statement = select(member.c.project_id).where(member.c.user_id == caller.id, member.c.role == "admin")
    own = set((await connection.execute(statement)).scalars())
    if any(one.id not in own for one in projects):
        raise AccessDenied("Access denied")


async def _check_empty(connection: AsyncConnection, projects: Sequence[Project]) -> None:
    names = {one.id: one.name for one in projects}
    for cls, what in ((Run, "active runs"), (Fleet, "fleets")):
        rows = await fetch(connection, cls, TABLES[cls.kind].c.project_id.in_(sorted(names)), live(cls), limit=1)
        if rows:
            raise DstackError(
                f"The project {names[rows[0].project_id]} still has {what}",
                hint="stop the runs and delete the fleets first",
            )


async def _check_quota(connection: AsyncConnection, parts: Parts, caller: User) -> None:
    quota = allowed(parts.settings.rules, caller)
    if quota is None:
        return
    if not parts.settings.rules.non_admins_create_projects:
        raise AccessDenied("Access denied", hint="only admins create projects on this server")
    # Locked, so that two requests at once do not both find room.
    await connection.execute(select(user.c.id).where(user.c.id == caller.id).with_for_update())
    owned = select(func.count()).select_from(project).where(project.c.owner_id == caller.id)
    if ((await connection.execute(owned)).scalar() or 0) >= quota:
        raise DstackError(
            f"You own {quota} projects, which is as many as you may",
            hint="delete one, or ask an admin of the server for a larger quota",
        )


async def _set(connection: AsyncConnection, project_id: str, **values: Any) -> None:
    await connection.execute(update(project).where(project.c.id == project_id).values(**values))
