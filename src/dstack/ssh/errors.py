"""What can be wrong with the way to a host, in words for the person who owns it."""

from __future__ import annotations

from dstack.errors import DstackError


class SshError(DstackError):
    """The host cannot be used over SSH just now, or not at all."""


class HostUnreachable(SshError):
    """Nothing answers there, or the connection broke: try again later."""


class HostKeyChanged(SshError):
    """Another machine answers, or the host was set up anew."""


class AccessDenied(SshError):
    """The key cannot be used, is refused, or opens an account that may not do what is needed."""


class AgentMissing(SshError):
    """The host answers but does not carry our agent (any more): wiped, or another machine at its address."""
