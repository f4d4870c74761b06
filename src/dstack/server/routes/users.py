"""Users, for admins and for themselves."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import DeleteUsers, ListUsers, SaveUser, Username
from dstack.server.routes.access import Caller, GlobalAdmin, PartsOf, Token
from dstack.server.routes.reply import nothing, reply
from dstack.server.services import users

router = APIRouter(prefix="/api/users", tags=["users"])


@router.post("/list")
async def list_users(parts: PartsOf, caller: Caller, body: ListUsers | None = None) -> Response:
    return reply(await users.list_users(parts, caller, body or ListUsers()))


@router.post("/get_user")
async def get_user(parts: PartsOf, _: GlobalAdmin, body: Username) -> Response:
    return reply(await users.get_other(parts, body.username))


@router.post("/create")
async def create(parts: PartsOf, admin: GlobalAdmin, body: SaveUser) -> Response:
    return reply(await users.create(parts, admin, body))


@router.post("/update")
async def update(parts: PartsOf, admin: GlobalAdmin, body: SaveUser) -> Response:
    return reply(await users.save(parts, admin, body))


@router.post("/refresh_token")
async def refresh_token(parts: PartsOf, caller: Caller, body: Username) -> Response:
    return reply(await users.refresh_token(parts, caller, body.username))


@router.post("/refresh_ssh_key")
async def refresh_ssh_key(parts: PartsOf, caller: Caller, token: Token, body: Username) -> Response:
    return reply(await users.refresh_ssh_key(parts, caller, body.username, token))


@router.post("/delete")
async def delete(parts: PartsOf, admin: GlobalAdmin, body: DeleteUsers) -> Response:
    await users.delete_users(parts, admin, body.users)
    return nothing()
