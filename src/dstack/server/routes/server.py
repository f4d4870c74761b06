"""What can be asked without a token: whether the server is up, and which API it speaks."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack import __version__
from dstack.model.wire import WIRE_VERSION
from dstack.server.routes.reply import reply

router = APIRouter(tags=["server"])


@router.get("/healthcheck")
async def healthcheck() -> Response:
    return reply({"status": "running"})


@router.post("/api/server/get_info")
async def get_info() -> Response:
    return reply({"server_version": WIRE_VERSION, "x_version": __version__})


@router.post("/api/auth/list_providers")
async def list_providers() -> Response:
    """Single sign-on is not configured: tokens are the way in."""
    return reply([])


@router.post("/api/backends/list_types")
async def list_backend_types() -> Response:
    """Backends that a project can configure by itself: none in this release; `local` belongs to the server."""
    return reply([])
