"""What can be asked without a token: whether the server is up, and which API it speaks."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from dstack import __version__
from dstack.errors import NotAuthenticated
from dstack.model.wire import WIRE_VERSION
from dstack.model.wire.requests import NextRedirect
from dstack.server.auth.identity import find_user
from dstack.server.parts import Parts
from dstack.server.routes.access import PartsOf, bearer
from dstack.server.routes.errors import PathNotFound
from dstack.server.routes.reply import reply
from dstack.server.services import counts
from dstack.server.store.trouble import DatabaseUnavailable

router = APIRouter(tags=["server"])


@router.get("/healthcheck")
async def healthcheck(parts: PartsOf) -> Response:
    """503 while the database cannot be used: a load balancer sends requests to another server then. Of one that is
    slow, for all servers as a rule, `x_slow` tells what is waited for."""
    if (trouble := parts.database.trouble.words) is not None:
        raise DatabaseUnavailable(f"The database cannot be used: {trouble}")
    slow = parts.database.slowness.words
    return reply({"status": "running"} | ({"x_slow": slow} if slow else {}))


@router.get("/metrics", include_in_schema=False)
async def prometheus(parts: PartsOf, request: Request) -> Response:
    """For admins of the server; for everybody, without a token, where its settings say so."""
    if not parts.settings.prometheus and not await _is_admin(parts, request):
        raise PathNotFound("Not found")
    return Response(await counts.exposition(parts), media_type=CONTENT_TYPE_LATEST)


@router.post("/api/server/get_info")
async def get_info() -> Response:
    return reply({"server_version": WIRE_VERSION, "x_version": __version__})


@router.post("/api/auth/list_providers")
async def list_providers() -> Response:
    """Single sign-on is not configured: tokens are the way in."""
    return reply([])


@router.post("/api/auth/get_next_redirect")
async def get_next_redirect(_: NextRedirect) -> Response:
    """Where to go on after a sign-on: nowhere, as none was begun here."""
    return reply({"redirect_url": None})


async def _is_admin(parts: Parts, request: Request) -> bool:
    try:
        token = await bearer(request)
    except NotAuthenticated:
        return False
    async with parts.database.read() as connection:
        user = await find_user(connection, token)
    return user is not None and user.is_admin
