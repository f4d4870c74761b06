"""Answers: plain data, already legal on the wire, as compact JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dstack.server.services.wire.encoding import Encoded, encoded

JSON = "application/json"


def reply(data: Any, status: int = 200) -> Response:
    return Response(encoded(data), status, media_type=JSON)


def reply_list(items: Iterable[bytes]) -> Response:
    """A list whose members are encoded already."""
    return Response(b"[" + b",".join(items) + b"]", media_type=JSON)


def reply_encoded(data: Encoded) -> Response:
    return _InBlocks(data)


def nothing() -> Response:
    """What calls without a result answer."""
    return reply(None)


class _InBlocks(Response):
    """Sent block by block, as fast as the other side reads: one that is slow has no copy of all of it waiting here."""

    def __init__(self, data: Encoded):
        super().__init__(headers={"content-length": str(data.size)}, media_type=JSON)
        self._data = data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for block in self._data.blocks():
            await send({"type": "http.response.body", "body": block, "more_body": True})
            await asyncio.sleep(0)  # sockets of this machine take a lot at once: others have their turn in between
        await send({"type": "http.response.body", "body": b""})
