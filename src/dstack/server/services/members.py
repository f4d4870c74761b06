"""Members of projects and their roles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import AccessDenied, DstackError, ResourceNotFound
from dstack.model.event import Event, EventTarget
from dstack.model.wire.requests import MemberSetting
from dstack.server.auth.identity import USER_COLUMNS, Access, user_of
from dstack.server.parts import Parts
from dstack.server.services.wire.people import Membership
from dstack.server.store.commit import record_events
from dstack.server.store.tables import member, project, user

_ADMINS_ONLY = "an admin of the project can say who its admins are"
_JOINING = "whoever joins a public project by themselves is a `user` of it"


async def add(parts: Parts, access: Access, settings: Sequence[MemberSetting]) -> None:
    """Add members, or give those that are there another role.

    Raises AccessDenied unless the caller manages the project, or joins a public one as a user.
    """
    joins = access.role is None and _listed(settings) == f"{access.user.username} (user)"
    if not access.manages and not (joins and access.project.is_public):
        raise AccessDenied("Access denied", hint=_JOINING if access.project.is_public else None)
    async with parts.database.write() as connection:
        await _lock(connection, access)
        await _check_admins_stay(connection, access, settings)
        await _put_members(connection, access, settings)
        await _check_admin_left(connection, access)
        await record(connection, parts, access, f"Project members added: {_listed(settings)}")


async def set_(parts: Parts, access: Access, settings: Sequence[MemberSetting]) -> None:
    """Make the members exactly these."""
    async with parts.database.write() as connection:
        await _lock(connection, access)
        await _check_admins_stay(connection, access, settings, only_these=True)
        await connection.execute(delete(member).where(member.c.project_id == access.project.id))
        await _put_members(connection, access, settings)
        await _check_admin_left(connection, access)
        await record(connection, parts, access, f"Project members set: {_listed(settings)}")


async def remove(parts: Parts, access: Access, usernames: Sequence[str]) -> None:
    """Raises AccessDenied unless the caller manages the project, or leaves it; DstackError for its last admin."""
    leaves = set(usernames) == {access.user.username}
    if not access.manages and not leaves:
        raise AccessDenied("Access denied")
    async with parts.database.write() as connection:
        await _lock(connection, access)
        if not access.administers and not leaves:
            await _check_no_admin(connection, access, usernames)
        ids = await _user_ids(connection, usernames)
        of_project = member.c.project_id == access.project.id
        await connection.execute(delete(member).where(of_project, member.c.user_id.in_(sorted(ids.values()))))
        await _check_admin_left(connection, access)
        await record(connection, parts, access, f"Project members removed: {', '.join(sorted(usernames))}")


async def members_of(
    connection: AsyncConnection, project_ids: Sequence[str], username: str | None = None
) -> dict[str, list[Membership]]:
    statement = (
        select(member.c.project_id.label("of_project"), member.c.role, *USER_COLUMNS)
        .join(user, user.c.id == member.c.user_id)
        .where(member.c.project_id.in_(project_ids))
        .order_by(user.c.created_at, user.c.id)
    )
    if username is not None:
        statement = statement.where(user.c.username == username)
    members: dict[str, list[Membership]] = defaultdict(list)
    for row in await connection.execute(statement):
        members[row.of_project].append(Membership(user_of(row), row.role))
    return members


async def _put_members(connection: AsyncConnection, access: Access, settings: Sequence[MemberSetting]) -> None:
    wanted = {one.username: one.project_role for one in settings}
    ids = await _user_ids(connection, list(wanted))
    if not wanted:
        return
    of_project = member.c.project_id == access.project.id
    await connection.execute(delete(member).where(of_project, member.c.user_id.in_(sorted(ids.values()))))
    rows = [{"project_id": access.project.id, "user_id": ids[name], "role": role} for name, role in wanted.items()]
    await connection.execute(insert(member), rows)


async def _check_admins_stay(
    connection: AsyncConnection, access: Access, settings: Sequence[MemberSetting], only_these: bool = False
) -> None:
    """Raises AccessDenied when a manager, who is no admin, makes or unmakes an admin of the project."""
    if access.administers:
        return
    members = (await members_of(connection, [access.project.id]))[access.project.id]
    before = {one.user.username for one in members if one.role == "admin"}
    wanted = {one.username: one.project_role for one in settings}
    after = {name for name in before if only_these is False and name not in wanted}
    after |= {name for name, role in wanted.items() if role == "admin"}
    if before != after:
        raise AccessDenied("Access denied", hint=_ADMINS_ONLY)


async def _check_no_admin(connection: AsyncConnection, access: Access, usernames: Sequence[str]) -> None:
    members = (await members_of(connection, [access.project.id]))[access.project.id]
    if any(one.role == "admin" and one.user.username in usernames for one in members):
        raise AccessDenied("Access denied", hint=_ADMINS_ONLY)


async def _lock(connection: AsyncConnection, access: Access) -> None:
    """Two changes at once must not both find an admin that the other one removes."""
    await connection.execute(select(project.c.id).where(project.c.id == access.project.id).with_for_update())


async def _check_admin_left(connection: AsyncConnection, access: Access) -> None:
    """Raises DstackError when nobody of the project could change its members any more; global admins always can."""
    if access.user.is_admin:
        return
    admins = select(member.c.user_id).where(member.c.project_id == access.project.id, member.c.role == "admin")
    if (await connection.execute(admins.limit(1))).first() is None:
        raise DstackError(
            f"The project {access.project.name} would have no admin any more",
            hint="make somebody else its admin first, or delete the project",
        )


async def _user_ids(connection: AsyncConnection, usernames: Sequence[str]) -> dict[str, str]:
    statement = select(user.c.username, user.c.id).where(user.c.username.in_(sorted(set(usernames))))
    ids = {name: id_ for name, id_ in await connection.execute(statement)}
    absent = sorted(set(usernames) - ids.keys())
    if absent:
        raise ResourceNotFound(f"User not found: {', '.join(absent)}")
    return ids


def _listed(settings: Sequence[MemberSetting]) -> str:
    return ", ".join(f"{one.username} ({one.project_role})" for one in settings)


async def record(connection: AsyncConnection, parts: Parts, access: Access, message: str) -> None:
    target = EventTarget("project", access.project.id, access.project.name)
    await record_events(connection, [Event(message, (target,), access.user.id, access.project.id)], parts.clock.now())
