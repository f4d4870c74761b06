"""git on the server: what it connects to is looked at, however it gets there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from dstack.git.access import Access, environment
from dstack.git.address import Address, parse_address
from dstack.git.failures import GitFailed
from dstack.git.gate import gate
from dstack.git.reach import addresses

PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}


@contextlib.asynccontextmanager
async def guarded(
    access: Access, known_hosts: Path | None, *, loopback: bool, base: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """(what to give git as the address, the environment to run it in). Raises GitFailed, in the block too."""
    address = parse_address(access.url)
    found = await addresses(address.host, address.port or PORTS[address.scheme], loopback=loopback)
    with environment(access, known_hosts, base) as env:
        if address.scheme == "ssh":
            yield access.url, env | {"GIT_SSH_COMMAND": f"{env['GIT_SSH_COMMAND']} {_pinned(address, found[0])}"}
        elif address.scheme == "git":
            yield dataclasses.replace(address, host=found[0]).url, env
        elif any(name.lower().endswith("_proxy") and name.lower() != "no_proxy" for name in env):
            yield access.url, env  # the administrator's own proxy connects, and decides
        else:
            async with gate(loopback) as way:
                try:
                    yield access.url, env | _through(way.port)
                except GitFailed as e:
                    raise (way.problem if way.problem is not None and not e.denied else e) from None


def _pinned(address: Address, numeric: str) -> str:
    """ssh goes to the address that was looked at, and knows the host by its name."""
    alias = f"[{address.host}]:{address.port}" if address.port not in (None, PORTS["ssh"]) else address.host
    return f"-o 'HostName={numeric}' -o 'HostKeyAlias={alias}'"


def _through(port: int) -> dict[str, str]:
    url = f"socks5h://127.0.0.1:{port}"  # h: names are looked up there
    return {"http_proxy": url, "https_proxy": url, "all_proxy": url, "NO_PROXY": "", "no_proxy": ""}
