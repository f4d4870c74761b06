"""What the rest of the system asks of a host that is reached over SSH."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dstack.agentapi.client import Connect
from dstack.agentapi.wire import HostFacts
from dstack.model.host import HostReport, RemoteHost

if TYPE_CHECKING:
    from dstack.ssh.streams import Streams


@dataclass(frozen=True)
class Credentials:
    """Private keys in OpenSSH form. They never appear in a representation, a log or an error."""

    private_key: str = field(repr=False)
    proxy_private_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PinnedKeys:
    """Host keys as `known_hosts` writes them (`ssh-ed25519 AAAA...`); None is pinned at the first connection."""

    host: str | None = None
    proxy: str | None = None


@dataclass(frozen=True)
class Onboarded:
    """The agent runs on the host and answers. `report` has the warnings."""

    facts: HostFacts
    report: HostReport
    pinned: PinnedKeys
    internal_ip: str | None
    addresses: tuple[str, ...] = ()  # all of the host, as `10.0.0.5/24`


@dataclass(frozen=True)
class Unfit:
    """The host was reached, or not, and cannot be used: `report.failed` says why and what mends it."""

    report: HostReport
    pinned: PinnedKeys


@dataclass(frozen=True)
class Upgrade:
    """What became of a look at the agent's version. `problem` is why an older agent than ours still runs."""

    before: str
    now: str
    problem: str = ""


class Hosts(Protocol):
    """One connection a host, shared by all who ask; `id` names the host among all (the instance's id).

    Every call has the caller's deadline. Raises `dstack.ssh.errors.HostUnreachable` where a host does not answer,
    `HostKeyChanged` where it is another one than before, `AccessDenied` where the key is refused.
    """

    async def onboard(
        self,
        id: str,
        host: RemoteHost,
        credentials: Credentials,
        pinned: PinnedKeys,
        bundle: Path,
        label: str = "",
    ) -> Onboarded | Unfit:
        """Check the host, install the agent or bring it up to date, start it. May be called again at any time.

        A newer agent than the bundle's that runs is left as it is.

        `label` says whose the host is from now on, to a person who adds it elsewhere, too: "fleet F of URL".
        A host that cannot be reached or logged in to is Unfit, with finding `ssh`; only a connection that breaks on the
        way is raised.
        """
        ...

    async def agent(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> Connect:
        """How to reach the host's agent; connects when there is no live connection, and starts the agent if it is down.

        Raises AgentMissing where the host is not (any more) one of ours: wiped, or another machine at its address.
        """
        ...

    async def upgrade(
        self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys, bundle: Path
    ) -> Upgrade:
        """Put the bundle's agent in the place of an older one; what it runs goes on.

        An agent of the same version or a newer one stays: of two servers the newer one has its way. One that does not
        start, or does not know the host's tasks, gives way to the agent before it, and is not tried again.
        """
        ...

    async def unreached(
        self,
        id: str,
        host: RemoteHost,
        credentials: Credentials,
        pinned: PinnedKeys,
        others: Sequence[tuple[str, int]],
    ) -> tuple[str, ...]:
        """Those of `others` (internal address, sshd's port) to which no connection can be made from this host, and why.

        For fleets with `placement: cluster`, once all hosts are onboarded.
        """
        ...

    async def open_port(
        self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys, port: int
    ) -> Streams:
        """A connection to the port on the host's loopback."""
        ...

    async def offboard(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> None:
        """End all that the agent runs, and leave the host as it was found. Idempotent."""
        ...

    async def forget(self, id: str) -> None:
        """Close the connection."""
        ...

    async def aclose(self) -> None: ...
