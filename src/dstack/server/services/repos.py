"""Repositories that a project knows, and each person's way to clone them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError, ResourceNotFound
from dstack.model.wire.requests import RepoCreds, SaveRepo
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.store.database import Database
from dstack.server.store.tables import repo, repo_code, repo_creds


class RepoNotFound(DstackError):
    code = "repo_does_not_exist"


async def save(parts: Parts, access: Access, request: SaveRepo) -> None:
    """Register the repository, or what changed about it; without credentials the caller's own are forgotten."""
    info = json.dumps(request.repo_info.model_dump(exclude_none=True))
    async with parts.database.write() as connection:
        of_project = (repo.c.project_id == access.project.id, repo.c.repo_id == request.repo_id)
        known = (await connection.execute(select(repo.c.repo_id).where(*of_project).with_for_update())).first()
        if known:
            await connection.execute(update(repo).where(*of_project).values(info=info))
        else:
            row = {"project_id": access.project.id, "repo_id": request.repo_id, "info": info}
            await connection.execute(insert(repo).values(**row))
        await _put_creds(connection, parts, access, request.repo_id, request.repo_creds)


async def get(parts: Parts, access: Access, repo_id: str, include_creds: bool) -> dict[str, Any]:
    """With the caller's own credentials when asked for. Raises ResourceNotFound.

    Not RepoNotFound: released clients ask before they register, and take that one for the end of the matter.
    """
    async with parts.database.read() as connection:
        try:
            row = await _find(connection, access, repo_id)
        except RepoNotFound as error:
            raise ResourceNotFound(error.message) from None
        creds = await _creds(connection, parts, access, repo_id) if include_creds else None
    return _head(row) | {"repo_creds": creds}


async def list_repos(parts: Parts, access: Access) -> list[dict[str, Any]]:
    statement = select(repo).where(repo.c.project_id == access.project.id).order_by(repo.c.repo_id)
    async with parts.database.read() as connection:
        return [_head(row) for row in await connection.execute(statement)]


async def delete_repos(parts: Parts, access: Access, ids: Sequence[str]) -> None:
    """Unknown ones are passed over."""
    of_project = repo.c.project_id == access.project.id
    async with parts.database.write() as connection:
        await connection.execute(delete(repo).where(of_project, repo.c.repo_id.in_(sorted(set(ids)))))


async def upload_code(parts: Parts, access: Access, repo_id: str, hash_: str, stream: AsyncIterator[bytes]) -> None:
    """Keep what differs from the repository's commit; `hash_` is the SHA-256 of its bytes.

    Raises RepoNotFound, and DstackError when it is too large or has another hash.
    """
    async with parts.database.read() as connection:
        await _find(connection, access, repo_id)
    size = await parts.blobs.put(hash_, stream, parts.settings.code_upload_limit)
    row = {"project_id": access.project.id, "repo_id": repo_id, "hash": hash_}
    async with parts.database.write() as connection:
        await _find(connection, access, repo_id)
        same = [repo_code.c[name] == value for name, value in row.items()]
        if (await connection.execute(select(repo_code.c.size).where(*same))).first() is None:
            await connection.execute(insert(repo_code).values(**row, size=size, created_at=parts.clock.now()))


async def resolve_repo_creds(
    database: Database, cipher: Cipher, project_id: str, repo_id: str, user_id: str
) -> RepoCreds | None:
    """What that person registered; None when nothing was."""
    t = repo_creds.c
    own = (t.project_id == project_id, t.repo_id == repo_id, t.user_id == user_id)
    async with database.read() as connection:
        sealed = (await connection.execute(select(t.value).where(*own))).scalar()
    return None if sealed is None else RepoCreds.model_validate_json(cipher.decrypt(sealed))


async def _find(connection: AsyncConnection, access: Access, repo_id: str) -> Any:
    of_project = repo.c.project_id == access.project.id
    row = (await connection.execute(select(repo).where(of_project, repo.c.repo_id == repo_id))).first()
    if row is None:
        raise RepoNotFound(f"Repo {repo_id} not found")
    return row


def _own(access: Access, repo_id: str) -> list[Any]:
    t = repo_creds.c
    return [t.project_id == access.project.id, t.repo_id == repo_id, t.user_id == access.user.id]


async def _put_creds(
    connection: AsyncConnection, parts: Parts, access: Access, repo_id: str, creds: RepoCreds | None
) -> None:
    await connection.execute(delete(repo_creds).where(*_own(access, repo_id)))
    if creds is not None:
        sealed = parts.cipher.encrypt(creds.model_dump_json().encode())
        row = {"project_id": access.project.id, "repo_id": repo_id, "user_id": access.user.id, "value": sealed}
        await connection.execute(insert(repo_creds).values(**row))


async def _creds(connection: AsyncConnection, parts: Parts, access: Access, repo_id: str) -> dict[str, Any] | None:
    sealed = (await connection.execute(select(repo_creds.c.value).where(*_own(access, repo_id)))).scalar()
    return json.loads(parts.cipher.decrypt(sealed)) if sealed is not None else None


def _head(row: Any) -> dict[str, Any]:
    return {"repo_id": row.repo_id, "repo_info": json.loads(row.info)}
