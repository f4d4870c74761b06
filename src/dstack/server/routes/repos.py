"""Repositories of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, Response, UploadFile

from dstack.model.wire.requests import DeleteRepos, GetRepo, SaveRepo
from dstack.server.routes.access import Member, PartsOf
from dstack.server.routes.reply import nothing, reply
from dstack.server.routes.uploads import pieces
from dstack.server.services import repos

router = APIRouter(prefix="/api/project/{project_name}/repos", tags=["repos"])


@router.post("/init")
async def init(parts: PartsOf, access: Member, body: SaveRepo) -> Response:
    await repos.save(parts, access, body)
    return nothing()


@router.post("/get")
async def get(parts: PartsOf, access: Member, body: GetRepo) -> Response:
    return reply(await repos.get(parts, access, body.repo_id, body.include_creds))


@router.post("/list")
async def list_repos(parts: PartsOf, access: Member) -> Response:
    return reply(await repos.list_repos(parts, access))


@router.post("/delete")
async def delete(parts: PartsOf, access: Member, body: DeleteRepos) -> Response:
    await repos.delete_repos(parts, access, body.repos_ids)
    return nothing()


@router.post("/upload_code")
async def upload_code(
    parts: PartsOf, access: Member, repo_id: Annotated[str, Query()], file: Annotated[UploadFile, File()]
) -> Response:
    """The file's name is the SHA-256 of its bytes."""
    await repos.upload_code(parts, access, repo_id, file.filename or "", pieces(file))
    return nothing()
