"""Secrets of projects: sealed at rest, opened only for those who manage them and for jobs that name them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update

from dstack.errors import DstackError, ResourceNotFound
from dstack.ids import new_id
from dstack.model.event import Event, EventTarget
from dstack.model.wire.requests import SECRET_NAME, SaveSecret
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.store.commit import record_events
from dstack.server.store.database import Database
from dstack.server.store.tables import secret
from dstack.values.interpolate import is_plain_reference

MAX_LENGTH = 64 * 1024


async def resolve_secrets(
    database: Database, cipher: Cipher, project_id: str, names: Collection[str]
) -> Mapping[str, str]:
    """The values of those secrets that exist, by name; who asks says which are missing."""
    if not names:
        return {}
    statement = select(secret.c.name, secret.c.value)
    statement = statement.where(secret.c.project_id == project_id, secret.c.name.in_(sorted(names)))
    async with database.read() as connection:
        found = (await connection.execute(statement)).all()
    return {name: cipher.decrypt(sealed).decode() for name, sealed in found}


async def list_secrets(parts: Parts, access: Access) -> list[dict[str, Any]]:
    """Without values."""
    statement = select(secret.c.id, secret.c.name).where(secret.c.project_id == access.project.id)
    async with parts.database.read() as connection:
        found = (await connection.execute(statement.order_by(secret.c.name))).all()
    return [{"id": row.id, "name": row.name, "value": None} for row in found]


async def get(parts: Parts, access: Access, name: str) -> dict[str, Any]:
    """With its value. Raises ResourceNotFound."""
    of_project = secret.c.project_id == access.project.id
    async with parts.database.read() as connection:
        row = (await connection.execute(select(secret).where(of_project, secret.c.name == name))).first()
    if row is None:
        raise ResourceNotFound(f"Secret {name} not found", hint="`dstack secret` lists those of the project")
    return {"id": row.id, "name": row.name, "value": parts.cipher.decrypt(row.value).decode()}


async def save(parts: Parts, access: Access, request: SaveSecret) -> dict[str, Any]:
    """Create it or give it another value. Raises DstackError when the name or the length is not legal."""
    if not re.fullmatch(SECRET_NAME, request.name, re.ASCII):
        raise DstackError(f"{request.name!r} is not a secret name, expected 1 to 200 letters, digits, `-`, `_`")
    if not is_plain_reference(f"secrets.{request.name}"):
        raise DstackError(
            f"{request.name!r} is not a secret name that `${{{{ secrets.NAME }}}}` could hold: "
            "it begins with a letter or `_`"
        )
    value = request.value.encode()
    if len(value) > MAX_LENGTH:
        raise DstackError(f"The value of the secret {request.name} is longer than {MAX_LENGTH} bytes")
    now, sealed = parts.clock.now(), parts.cipher.encrypt(value)
    of_project = secret.c.project_id == access.project.id
    async with parts.database.write() as connection:
        found = select(secret.c.id).where(of_project, secret.c.name == request.name).with_for_update()
        id_ = (await connection.execute(found)).scalar()
        known, id_ = id_ is not None, id_ or new_id()
        values = {"value": sealed, "updated_at": now}
        if known:
            await connection.execute(update(secret).where(secret.c.id == id_).values(**values))
        else:
            row = {"id": id_, "project_id": access.project.id, "name": request.name, **values}
            await connection.execute(insert(secret).values(**row))
        event = _event(access, f"Secret {'updated' if known else 'created'}", id_, request.name)
        await record_events(connection, [event], now)
    return {"id": id_, "name": request.name, "value": None}


async def delete_secrets(parts: Parts, access: Access, names: Sequence[str]) -> None:
    """Raises ResourceNotFound, and deletes nothing, when one does not exist."""
    of_project = secret.c.project_id == access.project.id
    async with parts.database.write() as connection:
        statement = select(secret.c.id, secret.c.name).where(of_project, secret.c.name.in_(sorted(set(names))))
        found = (await connection.execute(statement)).all()
        absent = sorted(set(names) - {row.name for row in found})
        if absent:
            raise ResourceNotFound(f"Secrets not found: {', '.join(absent)}")
        await connection.execute(delete(secret).where(secret.c.id.in_([row.id for row in found])))
        events = [_event(access, "Secret deleted", row.id, row.name) for row in found]
        await record_events(connection, events, parts.clock.now())


def _event(access: Access, message: str, id_: str, name: str) -> Event:
    return Event(message, (EventTarget("secret", id_, name),), access.user.id, access.project.id)
