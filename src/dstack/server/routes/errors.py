"""Errors as the API words them: `{"detail": ...}`, a person's hint beside it, never a traceback."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dstack.errors import AccessDenied, DstackError, NotAuthenticated
from dstack.ids import new_id
from dstack.server.routes.reply import reply

log = logging.getLogger(__name__)


class PathNotFound(DstackError):
    """The address itself names something that is not there, such as a project (HTTP 404)."""


def install(app: FastAPI) -> None:
    app.add_exception_handler(DstackError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, DstackError)
    return refusal(error)


def refusal(error: DstackError) -> Response:
    match error:
        case NotAuthenticated():
            response = reply({"detail": "Not authenticated"}, 401)
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        case AccessDenied():
            return reply(_with_hint({"detail": {"msg": error.message, "code": None}}, error), 403)
        case PathNotFound():
            return reply(_with_hint({"detail": {"msg": error.message, "code": None}}, error), 404)
        case _:
            return reply(_with_hint({"detail": [{"msg": error.message, "code": error.code}]}, error), 400)


def _with_hint(body: dict[str, Any], error: DstackError) -> dict[str, Any]:
    return body | {"hint": error.hint} if error.hint else body


async def _invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The input is left out: it may hold a secret, or a value that JSON cannot say.
    return reply({"detail": [{k: one[k] for k in ("type", "loc", "msg")} for one in error.errors()]}, 422)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = reply({"detail": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _unexpected(request: Request, error: Exception) -> Response:
    incident = new_id()
    # Values, where a secret could be, stay out of the log: only where it happened and what kind it was.
    log.error("%s %s failed, incident %s", request.method, request.url.path, incident, exc_info=_bare(error))
    return reply(
        {
            "detail": [{"msg": f"Unexpected server error (incident {incident})", "code": None}],
            "hint": "the server's log has more under this incident",
        },
        500,
    )


def _bare(error: Exception) -> tuple[type[BaseException], BaseException, Any]:
    return RuntimeError, RuntimeError(type(error).__name__), error.__traceback__
