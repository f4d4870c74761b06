"""What the server's error answers mean: status and body to one of the errors of `dstack.errors`."""

from __future__ import annotations

import json
from typing import Any

from dstack.errors import (
    AccessDenied,
    DstackError,
    InvalidCredentials,
    NotAuthenticated,
    ResourceExists,
    ResourceNotFound,
    ServerUnreachable,
)


class ServerFailed(ServerUnreachable):
    """The server, or a proxy in front of it, answered that it cannot answer (HTTP 5xx): as good as away."""


_BY_CODE: dict[str, type[DstackError]] = {
    "resource_exists": ResourceExists,
    "resource_not_exists": ResourceNotFound,
    "repo_does_not_exist": ResourceNotFound,
    "invalid_credentials": InvalidCredentials,
}
TOKEN_HINT = "check the token: `dstack project add --name NAME --url URL --token TOKEN` replaces it"


def refusal(url: str, path: str, status: int, content: bytes) -> DstackError:
    """The error that an answer with a status from 400 up stands for."""
    body = _body(content)
    details = _details(body)
    message = "; ".join(_words(detail) for detail in details)
    hint = body.get("hint") if isinstance(body.get("hint"), str) else None
    if status == 400 and details:
        code = details[0].get("code")
        return _BY_CODE.get(str(code), DstackError)(message, hint=hint)
    if status == 401:
        return NotAuthenticated(f"Access to {url} is denied: no usable token was sent", hint=hint or TOKEN_HINT)
    if status == 403:
        if "token" in message.lower() or not message:
            return InvalidCredentials(
                f"Access to {url} is denied: {message or 'the token is refused'}", hint=hint or TOKEN_HINT
            )
        return AccessDenied(f"Access to {url} is denied: {message}", hint=hint)
    if status == 404:
        return _not_found(url, path, message, hint)
    if status == 405:
        return DstackError(f"{url} does not know {path}", hint=hint or "is the server older than this client?")
    if status == 422:
        return DstackError(f"The server does not accept the request: {message or 'no reason given'}", hint=hint)
    if status == 413:
        return DstackError(message or f"{url} refuses a request of that size", hint=hint)
    return (ServerFailed if status >= 500 else DstackError)(
        f"The server at {url} failed to answer {path} (status {status}){': ' + message if message else ''}",
        hint=hint or "its log tells why; trying again does no harm",
    )


def _not_found(url: str, path: str, message: str, hint: str | None) -> DstackError:
    parts = path.split("/")
    if path.startswith("/api/projects/") and path.endswith("/get") and message:
        return ResourceNotFound(
            f"There is no project {parts[3]} at {url} that this token may see",
            hint=hint or "check the name; the first project of a server is called main",
        )
    if path.startswith("/api/project/") and len(parts) > 3 and message:
        return ResourceNotFound(
            f"Project {parts[3]} does not exist at {url}", hint=hint or "`dstack project list` shows what is configured"
        )
    return ResourceNotFound(f"{url} does not know {path}", hint=hint or "is this a dstack server? check the address")


def _body(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _details(body: dict[str, Any]) -> list[dict[str, Any]]:
    detail = body.get("detail")
    if isinstance(detail, str):
        return [{"msg": detail}]
    items = detail if isinstance(detail, list) else [detail]
    return [item for item in items if isinstance(item, dict)]


def _words(detail: dict[str, Any]) -> str:
    message = str(detail.get("msg") or "no reason given")
    place = ".".join(str(part) for part in detail.get("loc") or () if part != "body")
    return f"{place}: {message}" if place else message
