"""The small protocol that every backend fulfils, and the capability protocols that some do.

Expected outcomes are values; surprises are exceptions of `backends.errors`. One contract suite
(`tests/contract/backends`) holds every backend to this page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dstack.agentapi.client import Connect
from dstack.clock import Clock
from dstack.model.host import HostReport
from dstack.model.instance import ProvisioningData
from dstack.model.offer import Offer
from dstack.model.requirements import Requirements


@dataclass(frozen=True)
class InstanceOrder:
    """A wish for one machine. The same `token` names the same machine, however often it is asked for."""

    token: str
    offer: Offer
    name: str  # what a person sees in the provider's console
    project: str
    fleet: str
    disk_gb: float | None = None
    tags: dict[str, str] = field(default_factory=dict)
    data: ProvisioningData | None = None  # where the machine is, when it is there already: a host of one's own


@dataclass(frozen=True)
class Created:
    """`offer` and `report`: what a host of one's own turned out to have, and what the look at it found."""

    data: ProvisioningData
    offer: Offer | None = None
    report: HostReport | None = None


@dataclass(frozen=True)
class Unfit:
    """A host of one's own cannot be used as it is; a person can mend it, so it is tried again."""

    report: HostReport


@dataclass(frozen=True)
class OutOfCapacity:
    message: str


@dataclass(frozen=True)
class Refused:
    """The same order would be refused again (quota, bad parameter, no permission)."""

    message: str


CreateResult = Created | OutOfCapacity | Refused | Unfit


@dataclass(frozen=True)
class Terminating:
    """Not gone yet: ask again."""


@dataclass(frozen=True)
class Terminated:
    """The provider itself says that nothing under the token exists any more; `message` is for people."""

    message: str = ""


TerminateResult = Terminating | Terminated


@dataclass(frozen=True)
class InstanceState:
    """`state`: pending, running, stopped or gone; `preempted` when the provider took it back."""

    state: str
    data: ProvisioningData | None = None
    preempted: bool = False
    message: str = ""


@dataclass(frozen=True)
class ListedInstance:
    """One machine that carries our tag."""

    token: str
    backend_id: str
    created_at: float | None = None


class Backend(Protocol):
    """`name` is the backend's type. All calls may be made from several tasks at once and have the caller's deadline."""

    name: str

    async def offers(self, requirements: Requirements | None) -> Sequence[Offer]:
        """What could be created now, cheapest first; `requirements` may narrow the question but need not."""
        ...

    async def create_instance(self, order: InstanceOrder) -> CreateResult:
        """Create the machine of `order.token`, or answer the one that exists."""
        ...

    async def describe_instance(self, token: str, data: ProvisioningData) -> InstanceState: ...

    async def terminate_instance(self, token: str, data: ProvisioningData | None) -> TerminateResult:
        """Called until it answers Terminated; a token that never was is Terminated."""
        ...

    async def list_instances(self) -> Sequence[ListedInstance]:
        """Every machine that carries our tag, whoever made it."""
        ...

    async def check_credentials(self) -> None:
        """Raises `backends.errors.BadCredentials` with what is wrong."""
        ...


@runtime_checkable
class HostsAgent(Protocol):
    """A backend that knows the way to the agents of its machines."""

    async def agent_connect(self, token: str, data: ProvisioningData) -> Connect:
        """How to reach the instance's agent, started again if it does not run. Raises BackendError, OSError."""
        ...


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@runtime_checkable
class OpensPorts(Protocol):
    """A backend that reaches ports on the loopback of its machines."""

    async def open_port(self, token: str, data: ProvisioningData, port: int) -> Streams:
        """A connection. Raises BackendError, OSError."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A backend that holds something within this process: connections, timers, sessions."""

    async def aclose(self) -> None:
        """Let go of it: the backend was replaced, or the server stops. Its machines go on."""
        ...


@runtime_checkable
class UsesServer(Protocol):
    """A backend that can be configured to use the server's own machine, with all that its user may do there."""

    @property
    def uses_server(self) -> bool:
        """Whether this one is: its jobs are processes of the server's user, or it writes where its settings say."""
        ...


BackendConfig = Mapping[str, Any]  # as written: `type` and the backend's own settings, secrets included


@dataclass(frozen=True)
class BackendContext:
    """What a server lends to its backends. `folder` is the backend's own and may not exist yet.

    `bundle` answers the agent's zipapp, built when needed; `python` is an interpreter that runs it on this machine.
    """

    folder: Path
    bundle: Callable[[], Path]
    python: str
    clock: Clock


class BackendClass(Protocol):
    """What an entry point of the group `dstack.backends` names."""

    name: str

    def from_config(self, config: BackendConfig, context: BackendContext) -> Backend:
        """Make the backend without asking its provider. Raises ConfigurationError naming the field."""
        ...
