"""What can be asked without a token: whether the server is up, and which API it speaks."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack import __version__
from dstack.model.wire import WIRE_VERSION
from dstack.model.wire.requests import NextRedirect
from dstack.server.routes.access import PartsOf
from dstack.server.routes.errors import PathNotFound
from dstack.server.routes.reply import reply
from dstack.server.services import counts

router = APIRouter(tags=["server"])


@router.get("/healthcheck")
async def healthcheck() -> Response:
    return reply({"status": "running"})


@router.get("/metrics", include_in_schema=False)
async def prometheus(parts: PartsOf) -> Response:
    """Off unless the server's settings say otherwise: it needs no token."""
    if not parts.settings.prometheus:
        raise PathNotFound("Not found")
    return Response(await counts.exposition(parts), media_type="text/plain; version=0.0.4")


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
