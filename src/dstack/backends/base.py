"""The small protocol that every backend fulfils, and the capability protocols that some do.

Expected outcomes are values; surprises are exceptions of `backends.errors`. One contract suite
(`tests/contract/backends`) holds every backend to this page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from dstack.agentapi.client import Connect
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


@dataclass(frozen=True)
class Created:
    data: ProvisioningData


@dataclass(frozen=True)
class OutOfCapacity:
    message: str


@dataclass(frozen=True)
class Refused:
    """The same order would be refused again (quota, bad parameter, no permission)."""

    message: str


CreateResult = Created | OutOfCapacity | Refused


@dataclass(frozen=True)
class Terminating:
    """Not gone yet: ask again."""


@dataclass(frozen=True)
class Terminated:
    """The provider itself says that nothing under the token exists any more."""


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
    """A backend whose agent runs on this very machine and is reached without SSH."""

    async def agent_connect(self, token: str, data: ProvisioningData) -> Connect:
        """How to reach the instance's agent; starts it again if it is not running."""
        ...


BackendConfig = dict[str, Any]
