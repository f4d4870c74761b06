"""The caller's own SSH keys."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import AddPublicKey, Ids
from dstack.server.routes.access import Caller, PartsOf
from dstack.server.routes.reply import nothing, reply
from dstack.server.services import public_keys

router = APIRouter(prefix="/api/users/public_keys", tags=["users"])


@router.post("/list")
async def list_keys(parts: PartsOf, caller: Caller) -> Response:
    return reply(await public_keys.list_keys(parts, caller))


@router.post("/add")
async def add(parts: PartsOf, caller: Caller, body: AddPublicKey) -> Response:
    return reply(await public_keys.add(parts, caller, body))


@router.post("/delete")
async def delete(parts: PartsOf, caller: Caller, body: Ids) -> Response:
    await public_keys.delete_keys(parts, caller, body.ids)
    return nothing()
