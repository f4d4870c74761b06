"""Events."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import ListEvents
from dstack.server.routes.access import Caller, PartsOf
from dstack.server.routes.reply import reply
from dstack.server.services import events

router = APIRouter(prefix="/api/events", tags=["events"])


@router.post("/list")
async def list_events(parts: PartsOf, caller: Caller, body: ListEvents) -> Response:
    return reply(await events.list_events(parts, caller, body))
