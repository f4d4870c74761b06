"""What a backend raises when something happened that its protocol does not foresee as a value."""

from __future__ import annotations

from dstack.errors import DstackError, InvalidCredentials


class BackendError(DstackError):
    """The provider failed or could not be understood; the act is tried again."""


class BackendUnavailable(BackendError):
    """The provider does not answer: network, outage, rate limit."""


class BadCredentials(BackendError, InvalidCredentials):
    """The provider does not accept the credentials."""

    code = InvalidCredentials.code


class MissingDependency(BackendError):
    """The backend's SDK is not installed; the hint says `pip install dstack[...]`."""


class UnknownBackend(BackendError):
    """No backend of this release or of an installed package has that type."""
