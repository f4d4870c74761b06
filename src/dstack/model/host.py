"""A machine of somebody's own: where it is, how one gets there, and what a look at it found."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hop(_Noun):
    """One machine that is reached over SSH; no key is kept here."""

    hostname: str
    port: int = 22
    user: str


class RemoteHost(_Noun):
    """One host of an SSH fleet, with all that the fleet says of it in common filled in."""

    hop: Hop
    proxy: Hop | None = None  # the host through which it is reached
    internal_ip: str | None = None
    network: str | None = None  # the address in it is the internal one; `internal_ip` and `network` exclude each other
    blocks: int | Literal["auto"] = 1

    @property
    def key(self) -> str:
        """What tells it from all other hosts: `10.0.0.5`, `gpu1:2222`, `10.0.0.5 through login.lab`."""
        text = _endpoint(self.hop)
        return text if self.proxy is None else f"{text} through {_endpoint(self.proxy)}"


def _endpoint(hop: Hop) -> str:
    return hop.hostname.lower() if hop.port == 22 else f"{hop.hostname.lower()}:{hop.port}"


class Finding(_Noun):
    """The outcome of one check. `remedy` is a command, or a sentence, that mends it."""

    check: str  # ssh, sudo, docker, driver, container-runtime, hugepages, disk, forwarding, python, network
    state: Literal["ok", "warning", "failed"]
    message: str = ""
    remedy: str = ""


class HostReport(_Noun):
    """All checks of one host, in the order in which they were made."""

    hostname: str
    findings: tuple[Finding, ...] = ()

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.state == "failed")
