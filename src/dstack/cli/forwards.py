"""Ports of a run on this machine: which local port leads to which of the job's, and whether it is free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dstack.errors import DstackError, UsageError
from dstack.values.grammar import Invalid
from dstack.values.ports import MAX_PORT, Port, parse_port

Json = dict[str, Any]

LOCALHOST = "localhost"
NEXT_PORTS = 200  # how far `*:8080` looks for a free one


@dataclass(frozen=True)
class Forward:
    """`listens` is False where the job itself is to be found at that very port of this machine."""

    local: int
    remote: int
    listens: bool = True


def wanted(job_spec: Json, overrides: Sequence[str] = ()) -> list[Port]:
    """The ports of the job; `overrides` are values of `-p` and take the place of those of the same job's port."""
    ports = {app["port"]: Port(app.get("map_to_port"), app["port"]) for app in job_spec.get("app_specs") or []}
    for port in parsed(overrides):
        ports[port.container] = port
    return list(ports.values())


def parsed(overrides: Sequence[str]) -> list[Port]:
    """Values of `-p`. Raises UsageError."""
    try:
        return [parse_port(text) for text in overrides]
    except Invalid as e:
        raise UsageError(f"-p: {e}") from None


def chosen(ports: Sequence[Port], host: str, *, same_machine: bool) -> list[Forward]:
    """Where each is found here. Raises DstackError naming a port that is taken.

    `same_machine`: the job runs on this machine without a network of its own, so its ports are taken by itself.
    """
    found: list[Forward] = []
    for port in ports:
        taken = {one.local for one in found}
        if same_machine and port.local in (None, port.container):
            found.append(Forward(port.container, port.container, listens=False))
        elif port.local is None:
            found.append(Forward(_next_free(port.container, host, taken), port.container))
        else:
            check_free(port, host)
            found.append(Forward(port.local, port.container))
    return found


def check_free(port: Port, host: str) -> None:
    """Raises DstackError when the local port is taken, or may not be listened on."""
    assert port.local is not None
    problem = _problem(port.local, host)
    if problem is None:
        return
    if problem == errno.EACCES:
        raise DstackError(
            f"Port {port.local} of this machine is for root",
            hint=f"another local port: -p {8000 + port.local % 1000}:{port.container}",
        )
    if problem == errno.EADDRINUSE:
        raise DstackError(
            f"Port {port.local} is already in use on this machine",
            hint=f"-p overrides the local port, e.g. -p {_suggested(port.local, host)}:{port.container}; "
            f"-p '*:{port.container}' takes any free one",
        )
    raise DstackError(f"Cannot listen on {host}:{port.local}: {errno.errorcode.get(problem, problem)}")


def _suggested(port: int, host: str) -> int:
    return next((p for p in range(port + 1, min(port + NEXT_PORTS, MAX_PORT)) if _problem(p, host) is None), port + 1)


def _next_free(first: int, host: str, taken: set[int]) -> int:
    for port in range(first, min(first + NEXT_PORTS, MAX_PORT + 1)):
        if port not in taken and _problem(port, host) is None:
            return port
    raise DstackError(f"No port from {first} on is free on this machine", hint="choose one with -p LOCAL:REMOTE")


def _problem(port: int, host: str) -> int | None:
    """The errno with which listening fails; None when it does not. Nothing is kept: the tunnel listens itself."""
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        raise UsageError(f"--host {host}: not an address of this machine") from None
    with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(found[0][4])
        except OSError as e:
            return e.errno
    return None
