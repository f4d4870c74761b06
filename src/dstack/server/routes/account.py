"""The caller's own account."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.server.routes.access import CallerWithKey, PartsOf, Token
from dstack.server.routes.reply import reply
from dstack.server.services import users

router = APIRouter(prefix="/api/users", tags=["users"])


@router.post("/get_my_user")
async def get_my_user(parts: PartsOf, caller: CallerWithKey, token: Token) -> Response:
    return reply(users.own(parts, *caller, token))
