"""Repositories that a project knows: what clients register before they submit a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select

from dstack.errors import DstackError
from dstack.model.wire.requests import SaveRepo
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.store.tables import repo

_KINDS = ("virtual", "local", "remote")


class RepoNotFound(DstackError):
    code = "repo_does_not_exist"


async def save(parts: Parts, access: Access, request: SaveRepo) -> None:
    """Register the repository, or what changed about it. Raises DstackError for credentials: they are not kept yet."""
    if request.repo_info.get("repo_type") not in _KINDS:
        raise DstackError(f"repo_info: repo_type is not one of {', '.join(_KINDS)}")
    if request.repo_creds:
        raise DstackError(
            "Credentials of Git repositories are not supported yet by this server",
            hint="use `files` to bring local files into the run",
        )
    of_project = repo.c.project_id == access.project.id
    async with parts.database.write() as connection:
        await connection.execute(delete(repo).where(of_project, repo.c.repo_id == request.repo_id))
        row = {"project_id": access.project.id, "repo_id": request.repo_id, "info": json.dumps(request.repo_info)}
        await connection.execute(insert(repo).values(**row))


async def get(parts: Parts, access: Access, repo_id: str) -> dict[str, Any]:
    """Raises RepoNotFound."""
    of_project = repo.c.project_id == access.project.id
    async with parts.database.read() as connection:
        row = (await connection.execute(select(repo).where(of_project, repo.c.repo_id == repo_id))).first()
    if row is None:
        raise RepoNotFound(f"Repo {repo_id} not found")
    return _head(row) | {"repo_creds": None}


async def list_repos(parts: Parts, access: Access) -> list[dict[str, Any]]:
    statement = select(repo).where(repo.c.project_id == access.project.id).order_by(repo.c.repo_id)
    async with parts.database.read() as connection:
        return [_head(row) for row in await connection.execute(statement)]


async def delete_repos(parts: Parts, access: Access, ids: Sequence[str]) -> None:
    """Unknown ones are passed over."""
    of_project = repo.c.project_id == access.project.id
    async with parts.database.write() as connection:
        await connection.execute(delete(repo).where(of_project, repo.c.repo_id.in_(sorted(set(ids)))))


def _head(row: Any) -> dict[str, Any]:
    return {"repo_id": row.repo_id, "repo_info": json.loads(row.info)}
