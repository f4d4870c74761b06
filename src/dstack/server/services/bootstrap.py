"""The first start: the admin user, the default project with its queue, and the one showing of the token."""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.run.decide import queue_ref
from dstack.errors import ResourceNotFound
from dstack.ids import new_id
from dstack.model.event import Event, EventTarget
from dstack.model.queue import Queue
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.keys import new_key_pair
from dstack.server.auth.tokens import hash_token, new_token
from dstack.server.services.rows import insert_rows
from dstack.server.store.commit import record_events
from dstack.server.store.database import Database
from dstack.server.store.tables import member, project, user

ADMIN = "admin"


async def ensure(
    database: Database, cipher: Cipher, now: float, project_name: str, token: str | None = None
) -> str | None:
    """Make what a server needs to be usable, once.

    `token` is the admin's chosen one; it takes effect on later starts too. Answers the token when it is new, None
    when the admin keeps the one that they have.
    """
    async with database.write() as connection:
        admin = (await connection.execute(select(user.c.id, user.c.token_hash).where(user.c.username == ADMIN))).first()
        shown: str | None = None
        if admin is None:
            shown = token or new_token()
            admin_id = await insert_user(connection, cipher, now, ADMIN, "admin", shown)
        else:
            admin_id = admin.id
            if token is not None and admin.token_hash != hash_token(token):
                shown = token
                await _set_token(connection, admin_id, token)
        if (await connection.execute(select(project.c.id).limit(1))).first() is None:
            await insert_project(connection, now, project_name, admin_id, is_public=False)
        return shown


async def reset_token(database: Database, now: float, username: str = ADMIN) -> str:
    """A new token for the user; the old one is refused from now on. Raises ResourceNotFound."""
    token = new_token()
    async with database.write() as connection:
        row = (await connection.execute(select(user.c.id).where(user.c.username == username))).first()
        if row is None:
            raise ResourceNotFound(f"The user {username} does not exist")
        await _set_token(connection, row.id, token)
        target = EventTarget("user", row.id, username)
        await record_events(connection, [Event("User token reset on the server's machine", (target,))], now)
    return token


async def insert_user(
    connection: AsyncConnection,
    cipher: Cipher,
    now: float,
    username: str,
    global_role: str,
    token: str,
    email: str | None = None,
    active: bool = True,
) -> str:
    """A new user with a key pair of their own; answers the id."""
    id_, keys = new_id(), new_key_pair(username)
    await connection.execute(
        insert(user).values(
            id=id_,
            username=username,
            global_role=global_role,
            token_hash=hash_token(token),
            email=email,
            active=active,
            ssh_public_key=keys.public,
            ssh_private_key=cipher.encrypt(keys.private.encode()),
            created_at=now,
        )
    )
    return id_


async def insert_project(connection: AsyncConnection, now: float, name: str, owner_id: str, is_public: bool) -> str:
    """A new project: its owner is its admin, and its queue is ready. Answers the id."""
    id_ = new_id()
    await connection.execute(
        insert(project).values(id=id_, name=name, owner_id=owner_id, is_public=is_public, created_at=now)
    )
    await connection.execute(insert(member).values(project_id=id_, user_id=owner_id, role="admin"))
    await insert_rows(connection, [Queue(id=queue_ref(id_).id, project_id=id_, created_at=now)], now)
    return id_


async def _set_token(connection: AsyncConnection, user_id: str, token: str) -> None:
    await connection.execute(update(user).where(user.c.id == user_id).values(token_hash=hash_token(token)))
