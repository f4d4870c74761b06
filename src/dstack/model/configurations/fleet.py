"""Fleets: pools of instances, made in backends or from hosts reached over SSH."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dstack.model.base import NUMBER, TEXT, Model, read_all_by, read_by
from dstack.model.configurations.parts import Env, Name
from dstack.model.host import Hop, RemoteHost
from dstack.model.profile import ProvisioningParams
from dstack.model.resources import ResourcesSpec
from dstack.values.grammar import Invalid, show
from dstack.values.ports import parse_port_number
from dstack.values.ranges import parse_int, parse_range

BACKEND_FLEET_ONLY = (*ProvisioningParams.model_fields, "resources", "nodes")


def _blocks(value: Any) -> Any:
    if value == "auto":
        return value
    try:
        blocks = parse_int(value)
    except Invalid:
        blocks = 0
    if blocks < 1:
        raise Invalid(f"{show(value)} is not a number of blocks, expected a whole number from 1 up, or `auto`")
    return blocks


Blocks = Annotated[Literal["auto"] | int, read_all_by(_blocks, TEXT)]
PortNumber = Annotated[int | None, read_by(parse_port_number, TEXT)]
NodeCount = Annotated[int, read_by(parse_int, TEXT)]


MOST_KEPT = 10_000  # instances that a fleet makes by itself

_NODES_FORM = {
    "type": "object",
    "properties": {"min": {}, "target": {}, "max": {}},
    "additionalProperties": False,
}


class FleetNodesSpec(Model):
    """How many instances: `min` are kept, `target` are made at the start, None in `max` is without limit."""

    SHORT_FORMS = (TEXT, NUMBER, _NODES_FORM)

    min: NodeCount
    target: NodeCount
    max: NodeCount | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, Model):
            return value
        if not isinstance(value, dict):
            bounds = parse_range(value, parse_int, empty=True, noun="number of nodes")
            value = {"min": bounds.min, "max": bounds.max}
        value = {**value, "min": 0 if value.get("min") is None else value["min"]}
        return {**value, "target": value["min"] if value.get("target") is None else value["target"]}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise Invalid(f"`max` ({self.max}) is less than `min` ({self.min})", at=("max",))
        if self.target < self.min:
            raise Invalid(f"`target` ({self.target}) is less than `min` ({self.min})", at=("target",))
        if self.max is not None and self.max < self.target:
            raise Invalid(f"`max` ({self.max}) is less than `target` ({self.target})", at=("max",))
        if self.target > MOST_KEPT:
            raise Invalid(f"{self.target} is out of range, expected at most {MOST_KEPT}", at=("target",))
        return self

    def pretty(self) -> str:
        """For instance `min=0 target=0 max=2`."""
        return f"min={self.min} target={self.target} max={'unlimited' if self.max is None else self.max}"


class SSHKey(Model):
    """A key pair; the private half never appears in a representation."""

    public: str
    private: str | None = Field(default=None, repr=False)


class SSHProxyParams(Model):
    """The host through which others are reached."""

    hostname: Annotated[str, Field(min_length=1)]
    port: PortNumber = None
    user: str
    identity_file: str
    ssh_key: SSHKey | None = None


def _internal_ip(value: Any) -> str:
    try:
        address = ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise Invalid(f"{show(value)} is not an address, expected for instance `192.168.0.10`") from None
    if address.is_global:
        raise Invalid(f"{show(value)} is a public address, expected a private one")
    return str(address)


class SSHHostParams(Model):
    """One host; what it does not say comes from the fleet's `ssh_config`."""

    SHORT_FORMS = (TEXT,)

    hostname: Annotated[str, Field(min_length=1)]
    port: PortNumber = None
    user: str | None = None
    identity_file: str | None = None
    proxy_jump: SSHProxyParams | None = None
    internal_ip: Annotated[str | None, read_by(_internal_ip)] = None
    ssh_key: SSHKey | None = None
    blocks: Blocks | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"hostname": value} if isinstance(value, str) else value


def _network(value: Any) -> str:
    try:
        network = ipaddress.ip_network(value if isinstance(value, str) else "", strict=False)
    except ValueError:
        raise Invalid(f"{show(value)} is not a network, expected for instance `192.168.0.0/24`") from None
    if not network.is_private:
        raise Invalid(f"{show(value)} is a public network, expected a private one")
    return str(value)


class SSHParams(Model):
    """How the hosts of an SSH fleet are reached."""

    user: str | None = None
    port: PortNumber = None
    identity_file: str | None = None
    ssh_key: SSHKey | None = None
    proxy_jump: SSHProxyParams | None = None
    hosts: Annotated[tuple[SSHHostParams, ...], Field(min_length=1)]
    network: Annotated[str | None, read_by(_network)] = None

    @model_validator(mode="after")
    def _hosts_complete(self) -> Self:
        inner = [host.internal_ip is not None for host in self.hosts]
        if any(inner) and self.network is not None:
            raise Invalid("`network` and `internal_ip` exclude each other, expected one of them", at=("network",))
        if any(inner) and not all(inner):
            index = inner.index(False)
            raise Invalid("has no `internal_ip`, expected it on all hosts or on none", at=("hosts", index))
        for index, host in enumerate(self.hosts):
            at = ("hosts", index)
            if host.user is None and self.user is None:
                raise Invalid(f"No ssh user specified for host {host.hostname}, expected `user`", at=at)
            if not (host.identity_file or host.ssh_key or self.identity_file or self.ssh_key):
                raise Invalid(f"No ssh key specified for host {host.hostname}, expected `identity_file`", at=at)
        return self

    @model_validator(mode="after")
    def _hosts_differ(self) -> Self:
        first: dict[str, int] = {}
        for index, host in enumerate(self.remote_hosts()):
            if host.key in first:
                message = f"{host.key} is the same host as `hosts[{first[host.key]}]`, expected each host once"
                raise Invalid(message, at=("hosts", index))
            first[host.key] = index
        return self

    def remote_hosts(self, blocks: int | Literal["auto"] = 1) -> tuple[RemoteHost, ...]:
        """The hosts with all that holds for them; `blocks` is that of the fleet."""
        return tuple(self._remote(host, blocks) for host in self.hosts)

    def _remote(self, host: SSHHostParams, blocks: int | Literal["auto"]) -> RemoteHost:
        proxy = host.proxy_jump or self.proxy_jump
        return RemoteHost(
            hop=Hop(hostname=host.hostname, port=host.port or self.port or 22, user=host.user or self.user or ""),
            proxy=None if proxy is None else Hop(hostname=proxy.hostname, port=proxy.port or 22, user=proxy.user),
            internal_ip=host.internal_ip,
            network=self.network,
            blocks=blocks if host.blocks is None else host.blocks,
        )


class FleetConfiguration(ProvisioningParams):
    """A backend fleet has `nodes`, an SSH fleet `ssh_config`."""

    type: Literal["fleet"] = "fleet"
    name: Name | None = None
    placement: Literal["any", "cluster"] | None = None
    blocks: Blocks = 1
    nodes: FleetNodesSpec | None = None
    resources: ResourcesSpec | None = None
    ssh_config: SSHParams | None = None
    env: Env = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.ssh_config is None and self.nodes is None:
            raise Invalid(
                "has neither `nodes` (a backend fleet) nor `ssh_config` (your own hosts), expected one of them"
            )
        if self.ssh_config is None:
            return self
        if self.nodes is not None:
            raise Invalid("`nodes` and `ssh_config` exclude each other, expected one of them", at=("nodes",))
        for field in BACKEND_FLEET_ONLY:
            if getattr(self, field) is not None:
                raise Invalid("is not allowed in an SSH fleet, expected only beside `nodes`", at=(field,))
        return self
