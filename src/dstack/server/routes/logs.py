"""Logs: pages for all clients, and a stream that follows."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from dstack.model.wire.requests import FollowLogs, PollLogs
from dstack.server.routes.access import Member, PartsOf
from dstack.server.routes.reply import reply
from dstack.server.services import logs

router = APIRouter(prefix="/api/project/{project_name}/logs", tags=["logs"])


@router.post("/poll")
async def poll(parts: PartsOf, access: Member, body: PollLogs) -> Response:
    return reply(await logs.poll(parts, access, body))


@router.post("/follow")
async def follow(parts: PartsOf, access: Member, body: FollowLogs) -> Response:
    await logs.check_job(parts, access, str(body.job_submission_id))
    # Proxies in between must not collect the stream.
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(logs.follow(parts, access, body), media_type="application/x-ndjson", headers=headers)
