"""Errors as the API words them: `{"detail": ...}`, a person's hint beside it, never a traceback."""

from __future__ import annotations

import errno
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, IntegrityError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dstack.errors import AccessDenied, DstackError, NotAuthenticated, ResourceExists
from dstack.ids import new_id
from dstack.server.routes.reply import reply
from dstack.server.store.trouble import ROLLED_BACK, DatabaseUnavailable, state_of

log = logging.getLogger(__name__)
RETRY_AFTER_S = "5"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class PathNotFound(DstackError):
    """The address itself names something that is not there, such as a project (HTTP 404)."""


def install(app: FastAPI) -> None:
    app.add_exception_handler(DstackError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(IntegrityError, _raced)
    app.add_exception_handler(DBAPIError, _crossed)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(OSError, _no_room)
    app.add_middleware(Incidents)


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


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and request.method == "POST" and request.url.path.startswith("/api/"):
        # What released clients know as "this server does not have that".
        return reply({"detail": "Method Not Allowed"}, 405)
    response = reply({"detail": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _raced(_: Request, error: Exception) -> Response:
    """Two requests made the same thing at the same moment, and this is the second."""
    return refusal(ResourceExists("It has just been made by another request", hint="look at it, and try again"))


async def _unavailable(_: Request, error: Exception) -> Response:
    unsure = isinstance(error, DatabaseUnavailable) and error.unsure
    kept = "nobody knows whether it was done: look before you ask again" if unsure else "nothing was changed"
    response = _for_a_while(str(error), f"{kept}; the server goes on by itself when it can be used again")
    if unsure:
        # It says when to ask again, and programs follow it: what was kept would be done twice.
        del response.headers["Retry-After"]
    return response


async def _crossed(_: Request, error: Exception) -> Response:
    """PostgreSQL ended one of two transactions that waited for each other."""
    if state_of(error)[:2] != ROLLED_BACK:
        raise error
    return _for_a_while("Another request changed the same things at the same moment", "nothing was changed; try again")


async def _no_room(_: Request, error: Exception) -> Response:
    """Files of the server, such as uploads and logs."""
    if not isinstance(error, OSError) or error.errno not in _NO_ROOM:
        raise error
    return _for_a_while("The server's disk is full", "nothing was kept; try again when there is room on it")


def _for_a_while(message: str, hint: str) -> Response:
    response = reply({"detail": [{"msg": message, "code": None}], "hint": hint}, 503)
    response.headers["Retry-After"] = RETRY_AFTER_S
    return response


class Incidents:
    """Middleware: an exception that nobody foresaw becomes an answer with a number, under which the log has more."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except DatabaseUnavailable:
            return  # in the middle of an answer, which is cut: who follows asks again where it stands
        except Exception as error:
            incident = new_id()
            # Values, where a secret could be, stay out of the log: only where it happened and what kind it was.
            bare = RuntimeError(type(error).__name__).with_traceback(error.__traceback__)
            log.error("%s %s failed, incident %s", scope["method"], scope["path"], incident, exc_info=bare)
            if started:
                raise RuntimeError(f"the answer was cut short, incident {incident}") from None
            await _incident(incident)(scope, receive, send)


def _incident(number: str) -> Response:
    body = {"detail": [{"msg": f"Unexpected server error (incident {number})", "code": None}]}
    return reply(body | {"hint": "the server's log has more under this number"}, 500)
