"""Orphaned machines, for the admins of the server."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import OrphanToken
from dstack.server.routes.access import GlobalAdmin, PartsOf
from dstack.server.routes.reply import nothing, reply
from dstack.server.services import orphans

router = APIRouter(prefix="/api/server/orphans", tags=["server"])


@router.post("/list")
async def list_orphans(parts: PartsOf, _: GlobalAdmin) -> Response:
    return reply(await orphans.list_orphans(parts))


@router.post("/terminate")
async def terminate(parts: PartsOf, caller: GlobalAdmin, body: OrphanToken) -> Response:
    await orphans.terminate(parts, caller, body.token)
    return nothing()


@router.post("/settle")
async def settle(parts: PartsOf, caller: GlobalAdmin, body: OrphanToken) -> Response:
    await orphans.settle(parts, caller, body.token)
    return nothing()
