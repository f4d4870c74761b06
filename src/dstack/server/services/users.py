"""Users, their tokens and their key pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import AccessDenied, DstackError, ResourceExists, ResourceNotFound
from dstack.model.event import Event, EventTarget
from dstack.model.run import Run
from dstack.model.wire.requests import USER_NAME, ListUsers, SaveUser
from dstack.server.auth.identity import USER_COLUMNS, User, user_of
from dstack.server.auth.keys import new_key_pair
from dstack.server.auth.tokens import hash_token, new_token
from dstack.server.parts import Parts
from dstack.server.services.bootstrap import ADMIN, insert_user
from dstack.server.services.rows import after, fetch, live, paged
from dstack.server.services.wire import people
from dstack.server.store.commit import record_events
from dstack.server.store.tables import TABLES, project, user


def own(parts: Parts, caller: User, sealed_key: bytes | None, token: str) -> dict[str, Any]:
    """The caller with their token and private key: both are theirs."""
    key = parts.cipher.decrypt(sealed_key).decode() if sealed_key else None
    return people.user_with_creds(caller, parts.settings.rules, token, key)


async def get_other(parts: Parts, username: str) -> dict[str, Any]:
    """For admins: tokens are kept as hashes and cannot be shown. Raises ResourceNotFound."""
    async with parts.database.read() as connection:
        found = await _find(connection, username)
    return people.user_with_creds(found, parts.settings.rules, "", None)


async def list_users(parts: Parts, caller: User, query: ListUsers) -> Any:
    """Rendered users, the newest first unless `ascending`; whoever is no admin sees themselves."""
    conditions: list[Any] = [] if caller.is_admin else [user.c.id == caller.id]
    if query.name_pattern:
        conditions.append(user.c.username.icontains(query.name_pattern, autoescape=True))
    page = list(conditions)
    page += after(user.c.created_at, user.c.id, query.prev_created_at, query.prev_id, query.ascending)
    order = paged(user.c.created_at, user.c.id, query.ascending)
    async with parts.database.read() as connection:
        found = await connection.execute(select(*USER_COLUMNS).where(*page).order_by(*order).limit(query.limit))
        rendered = [people.user(user_of(row), parts.settings.rules) for row in found]
        if not query.return_total_count:
            return rendered
        total = (await connection.execute(select(func.count()).select_from(user).where(*conditions))).scalar()
    return {"users": rendered, "total_count": total}


async def create(parts: Parts, caller: User, request: SaveUser) -> dict[str, Any]:
    """The new user with their token, which is shown this once. Raises ResourceExists."""
    if not re.fullmatch(USER_NAME, request.username, re.ASCII):
        raise DstackError(f"{request.username!r} is not a user name, expected 1 to 60 letters, digits, `-`, `_`")
    now, token = parts.clock.now(), new_token()
    async with parts.database.write() as connection:
        if (await connection.execute(select(user.c.id).where(user.c.username == request.username))).first():
            raise ResourceExists(f"The user {request.username} exists already")
        id_ = await insert_user(
            connection,
            parts.cipher,
            now,
            request.username,
            request.global_role,
            token,
            request.email,
            request.active,
        )
        if request.x_projects_quota is not None:
            await _set_quota(connection, id_, request.x_projects_quota)
        await _record(connection, caller, "User created", id_, request.username, now)
        made = await _find(connection, request.username)
    return people.user(made, parts.settings.rules) | {"x_token": token}


async def save(parts: Parts, caller: User, request: SaveUser) -> dict[str, Any]:
    """Role, e-mail and whether the token works. Raises ResourceNotFound."""
    async with parts.database.write() as connection:
        found = await _find(connection, request.username)
        if found.id == caller.id and not (request.active and request.global_role == "admin"):
            raise DstackError("Admins cannot take their own rights", hint="another admin can")
        values = {"global_role": request.global_role, "email": request.email, "active": request.active}
        await connection.execute(update(user).where(user.c.id == found.id).values(**values))
        if request.x_projects_quota is not None:
            await _set_quota(connection, found.id, request.x_projects_quota)
        await _record(connection, caller, "User updated", found.id, found.username, parts.clock.now())
        return people.user(await _find(connection, request.username), parts.settings.rules)


async def refresh_token(parts: Parts, caller: User, username: str) -> dict[str, Any]:
    """A new token, shown this once; the old one is refused from now on."""
    _check_self_or_admin(caller, username)
    token = new_token()
    async with parts.database.write() as connection:
        found = await _find(connection, username)
        await connection.execute(update(user).where(user.c.id == found.id).values(token_hash=hash_token(token)))
        await _record(connection, caller, "User token refreshed", found.id, username, parts.clock.now())
    key = await _private_key(parts, found.id) if found.id == caller.id else None
    return people.user_with_creds(found, parts.settings.rules, token, key)


async def refresh_ssh_key(parts: Parts, caller: User, username: str, token: str) -> dict[str, Any]:
    """A new key pair."""
    _check_self_or_admin(caller, username)
    keys = new_key_pair(username)
    sealed = parts.cipher.encrypt(keys.private.encode())
    async with parts.database.write() as connection:
        found = await _find(connection, username)
        change = update(user).where(user.c.id == found.id)
        await connection.execute(change.values(ssh_public_key=keys.public, ssh_private_key=sealed))
        await _record(connection, caller, "User SSH key refreshed", found.id, username, parts.clock.now())
        found = await _find(connection, username)
    own = found.id == caller.id
    return people.user_with_creds(found, parts.settings.rules, token if own else "", keys.private if own else None)


async def delete_users(parts: Parts, caller: User, usernames: Sequence[str]) -> None:
    """Raises DstackError for the admin user, and for users who own projects or have active runs."""
    if ADMIN in usernames:
        raise DstackError("The user admin cannot be deleted", hint="make them inactive instead")
    async with parts.database.write() as connection:
        found = [await _find(connection, name) for name in dict.fromkeys(usernames)]
        ids = [one.id for one in found]
        owner = (await connection.execute(select(project.c.name).where(project.c.owner_id.in_(ids)).limit(1))).scalar()
        if owner is not None:
            raise DstackError(f"The project {owner} belongs to one of them", hint="delete the project first")
        runs = await fetch(connection, Run, TABLES["run"].c.user_id.in_(ids), live(Run), limit=1)
        if runs:
            raise DstackError(f"The run {runs[0].name} of one of them is active", hint="stop it first")
        await connection.execute(delete(user).where(user.c.id.in_(ids)))
        for one in found:
            await _record(connection, caller, "User deleted", one.id, one.username, parts.clock.now())


async def _set_quota(connection: AsyncConnection, user_id: str, quota: int) -> None:
    await connection.execute(update(user).where(user.c.id == user_id).values(projects_quota=quota))


def _check_self_or_admin(caller: User, username: str) -> None:
    if not caller.is_admin and caller.username != username:
        raise AccessDenied("Access denied")


async def _private_key(parts: Parts, user_id: str) -> str | None:
    async with parts.database.read() as connection:
        sealed = (await connection.execute(select(user.c.ssh_private_key).where(user.c.id == user_id))).scalar()
    return parts.cipher.decrypt(sealed).decode() if sealed else None


async def _find(connection: AsyncConnection, username: str) -> User:
    row = (await connection.execute(select(*USER_COLUMNS).where(user.c.username == username))).first()
    if row is None:
        raise ResourceNotFound(f"User {username} not found")
    return user_of(row)


async def _record(
    connection: AsyncConnection, caller: User, message: str, user_id: str, username: str, now: float
) -> None:
    await record_events(connection, [Event(message, (EventTarget("user", user_id, username),), caller.id)], now)
