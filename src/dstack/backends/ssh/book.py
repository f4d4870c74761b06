"""What the SSH backend has to look up about a host; the server keeps it, sealed where it is secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dstack.model.host import RemoteHost
from dstack.ssh.host import Credentials, PinnedKeys


@dataclass(frozen=True)
class KnownHost:
    remote: RemoteHost
    credentials: Credentials
    pinned: PinnedKeys


class HostBook(Protocol):
    """Entries are found by the id of the host's instance."""

    async def find(self, instance_id: str) -> KnownHost | None:
        """None when nobody knows the host any more, or its keys."""
        ...

    async def pin(self, instance_id: str, pinned: PinnedKeys) -> None:
        """Keep the host keys that were seen at the first connection; those that are pinned already stay."""
        ...

    async def forget(self, instance_id: str) -> None:
        """The host was left: its pins are void, and its keys are dropped unless its fleet still names it."""
        ...

    async def tokens(self) -> Sequence[str]:
        """The tokens of the instances that were set up and not left."""
        ...
