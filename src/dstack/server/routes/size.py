"""How large a request may be: nobody fills this machine's memory or disk, with a token or without."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dstack.server.parts import Parts
from dstack.server.routes.reply import reply

UPLOADS = ("/api/files/upload_archive", "/repos/upload_code")
MIB = 1024 * 1024
MAX_BODY = 8 * MIB
FRAME = 64 * 1024  # what multipart puts around a file
# A client that is cut off while it sends does not read the answer; so much more is read and thrown away.
PATIENCE = 64 * MIB


class SizeLimit:
    """Middleware. Uploads have the limit of the settings, everything else `MAX_BODY` bytes."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope)
        announced = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if announced.isdigit() and int(announced) > limit:
            await _drain(receive)
            await reply({"detail": _detail(scope, limit)}, 400)(scope, receive, send)
            return
        await self._app(scope, _counted(scope, receive, limit), send)


def _limit(scope: Scope) -> int:
    if not scope["path"].endswith(UPLOADS):
        return MAX_BODY
    parts: Parts = scope["app"].state.parts
    return parts.settings.code_upload_limit + FRAME


def _counted(scope: Scope, receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            await _drain(receive)
            raise HTTPException(400, _detail(scope, limit))
        return message

    return counted


async def _drain(receive: Receive) -> None:
    thrown_away = 0
    while thrown_away < PATIENCE:
        message = await receive()
        thrown_away += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _detail(scope: Scope, limit: int) -> list[dict[str, str]]:
    upload = scope["path"].endswith(UPLOADS)
    what = "archive" if upload else "request"
    allowed = limit - FRAME if upload else limit
    return [{"msg": f"The {what} is larger than the limit of {allowed} bytes", "code": "error"}]
