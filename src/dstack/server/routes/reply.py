"""Answers: plain data, already legal on the wire, as compact JSON."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response


def reply(data: Any, status: int = 200) -> Response:
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(body, status, media_type="application/json")


def nothing() -> Response:
    """What calls without a result answer."""
    return reply(None)
