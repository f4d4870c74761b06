"""Archives of local files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Response, UploadFile

from dstack.model.wire.requests import ArchiveHash
from dstack.server.routes.access import Caller, PartsOf
from dstack.server.routes.reply import reply
from dstack.server.routes.uploads import pieces
from dstack.server.services import files

router = APIRouter(prefix="/api/files", tags=["files"])


@router.post("/get_archive_by_hash")
async def get_archive_by_hash(parts: PartsOf, caller: Caller, body: ArchiveHash) -> Response:
    return reply(await files.get_by_hash(parts, caller, body.hash))


@router.post("/upload_archive")
async def upload_archive(parts: PartsOf, caller: Caller, file: Annotated[UploadFile, File()]) -> Response:
    """The file's name is the SHA-256 of its bytes."""
    return reply(await files.upload(parts, caller, file.filename or "", pieces(file)))
