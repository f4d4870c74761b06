"""GPUs on offer."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import ListGpus
from dstack.server.routes.access import Member, PartsOf
from dstack.server.routes.reply import reply
from dstack.server.services import gpus

router = APIRouter(tags=["gpus"])


@router.post("/api/project/{project_name}/gpus/list")
async def list_gpus(parts: PartsOf, access: Member, body: ListGpus) -> Response:
    return reply(await gpus.list_gpus(parts, access, body))
