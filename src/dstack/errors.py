"""The one tree of errors: a code for programs, a message and a hint for people."""

from __future__ import annotations


class DstackError(Exception):
    """Something that a person can act on.

    `code` is one of the wire codes of the HTTP API (`error`, `resource_exists`, `resource_not_exists`, ...),
    `message` one sentence without a full stop, `hint` what to do next.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DstackError):
    """The command line cannot be understood (exit code 2)."""


class ConfigurationError(DstackError):
    """A document is not legal; `message` already names file, line, column and field."""


class ResourceExists(DstackError):
    code = "resource_exists"


class ResourceNotFound(DstackError):
    code = "resource_not_exists"


class InvalidCredentials(DstackError):
    code = "invalid_credentials"


class NotAuthenticated(DstackError):
    """No usable bearer token was sent (HTTP 401)."""


class AccessDenied(DstackError):
    """The caller is known but may not do this (HTTP 403)."""


class ServerUnreachable(DstackError):
    """The dstack server does not answer."""
