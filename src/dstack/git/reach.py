"""Which addresses may be fetched from: a member of a project names them, and the server's machine connects to them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

from dstack.git.failures import GitFailed

RESOLVE_S = 15.0
# Where clouds hand out credentials of the machine, beside 169.254.0.0/16 and fe80::/10.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address in its last four bytes
SETTING = "DSTACK_SERVER_REPO_LOOPBACK"


class Forbidden(GitFailed):
    """The host has no address from which this server fetches."""


async def addresses(host: str, port: int, *, loopback: bool) -> list[str]:
    """The addresses of `host` that may be connected to, in the resolver's order.

    `loopback`: those of this machine, too. Private networks are among them: that is where a company's own Git host is.
    Raises Forbidden, and GitFailed for a name that nobody knows.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise GitFailed(f"{host} cannot be reached: no answer in time") from None
    except (OSError, UnicodeError):
        raise GitFailed(f"{host} cannot be reached: there is no such host") from None
    every = list(dict.fromkeys(str(row[4][0]).partition("%")[0] for row in found))
    refused = {text: why for text in every if (why := refusal(text, loopback=loopback))}
    allowed = [text for text in every if text not in refused]
    if not allowed:
        raise _forbidden(host, *next(iter(refused.items())))
    return allowed


def refusal(address: str, *, loopback: bool) -> str:
    """Why nothing is fetched from an address; "" where it may be."""
    plain = _plain(ipaddress.ip_address(address))
    if plain in METADATA or plain.is_link_local:
        return "an address for the machine itself, as those of cloud metadata are"
    if plain.is_loopback:
        return "" if loopback else "the server's own machine"
    if plain.is_multicast or plain.is_unspecified or _reserved(plain):
        return "no address of a host"
    return ""


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address in the clothes of IPv6 is that address."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in TRANSLATED:
            return IPv4Address(address.packed[-4:])
    return address


def _reserved(address: IPv4Address | IPv6Address) -> bool:
    return isinstance(address, IPv4Address) and (address.packed[0] == 0 or address.is_reserved)


def _forbidden(host: str, address: str, why: str) -> Forbidden:
    at = host if host == address else f"{host} ({address})"
    hint = f"`{SETTING}=1` on the server allows repositories of its own machine" if "own machine" in why else None
    return Forbidden(f"{at} is {why}: the server fetches nothing from there", hint=hint)
