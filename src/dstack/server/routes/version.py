"""The rule of the `X-API-VERSION` header: a client that is newer than the server is told so."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from dstack.model.wire import WIRE_VERSION
from dstack.server.routes.reply import reply

_VERSION = re.compile(
    r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:[-.+]?[a-z][a-z0-9.+-]*)?", re.ASCII | re.IGNORECASE
)
_DEVELOPMENT = "0.0.0"


class VersionCheck:
    """Middleware. Absent, `latest` and development versions pass; an unreadable one is refused on every path."""

    def __init__(self, app: ASGIApp, server_version: str = WIRE_VERSION):
        self._app = app
        self._server = server_version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem(scope, receive, send)

    def _problem(self, scope: Scope) -> ASGIApp | None:
        client = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"x-api-version"), None)
        if client is None or client == "latest" or client.startswith(_DEVELOPMENT):
            return None
        parsed = parse(client)
        if parsed is None:
            return reply({"detail": [{"msg": f"Invalid version: {client[:100]}", "code": None}]}, 400)
        if scope["path"].startswith("/api/") and parsed > (parse(self._server) or parsed):
            message = (
                f"The client/CLI version ({client[:100]}) is incompatible with the server version ({self._server})."
            )
            return reply({"detail": [{"msg": message, "code": "error"}]}, 400)
        return None


def parse(version: str) -> tuple[int, int] | None:
    """Major and minor number; the rest never decides."""
    match = _VERSION.fullmatch(version)
    return (int(match[1]), int(match[2] or 0)) if match else None
