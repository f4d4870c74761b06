"""Small private networks for tasks: which of a range collide with nothing that this machine knows."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Iterable, List, Mapping, NamedTuple, Sequence, Set

# Of the addresses from which Docker itself takes its networks; with 16 addresses each there are thousands of them.
DEFAULT_RANGES = ("172.29.0.0/16", "172.27.0.0/16", "192.168.224.0/19")
PREFIX = 28
WIDE = 7  # a route to more of the world than this is a way out (VPNs have two halves of it), not a network
VARIABLE = "DSTACK_AGENT_SUBNETS"
FILE = "/etc/dstack/subnets"
RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
NAMED = 4  # of those who have the addresses, in a refusal


class Taken(NamedTuple):
    """Addresses that somebody has."""

    network: ipaddress.IPv4Network
    by: str


def configured(environment: Mapping[str, str] = os.environ, file: str = FILE) -> List[ipaddress.IPv4Network]:
    """What the machine's administrator set aside for tasks; empty where nothing is said. Raises ValueError."""
    where, text = VARIABLE, environment.get(VARIABLE, "")
    if not text:
        try:
            with open(file) as f:
                where, text = file, "\n".join(line.partition("#")[0] for line in f)
        except FileNotFoundError:
            return []
        except OSError as e:
            raise ValueError("%s cannot be read: %s" % (file, e.strerror)) from None
    return [_range(word, where) for word in text.replace(",", " ").split()]


def of_pools(pools: Iterable[dict]) -> List[ipaddress.IPv4Network]:
    """The ranges of an engine's `DefaultAddressPools`, which somebody chose with the surrounding network in mind."""
    found = []
    for pool in pools:
        network = ipaddress.ip_network(str(pool.get("Base")), strict=False)
        if isinstance(network, ipaddress.IPv4Network) and network.prefixlen <= PREFIX:
            found.append(network)
    return found


def defaults() -> List[ipaddress.IPv4Network]:
    return [ipaddress.IPv4Network(text) for text in DEFAULT_RANGES]


def choose(ranges: Sequence[ipaddress.IPv4Network], taken: Sequence[Taken], start: int = 0) -> str:
    """A free network of the ranges, "" when there is none. `start`, any number, spreads those who choose at once."""
    for each in ranges:
        count = 1 << (PREFIX - each.prefixlen)
        blocked = _blocked(each, count, taken)
        for n in range(count):
            number = (start + n) % count
            if number not in blocked:
                return str(ipaddress.IPv4Network((int(each.network_address) + (number << (32 - PREFIX)), PREFIX)))
    return ""


def refusal(ranges: Sequence[ipaddress.IPv4Network], taken: Sequence[Taken]) -> str:
    """Why there is none: who has the addresses, the greatest first."""
    there = [one for one in taken if any(one.network.overlaps(each) for each in ranges)]
    there.sort(key=lambda one: one.network.prefixlen)
    names = ["%s (%s)" % (one.by, one.network) for one in there[:NAMED]]
    names += ["%d more" % (len(there) - NAMED)] if len(there) > NAMED else []
    return "No network is free for the task: %s %s taken by %s. Set others aside for tasks in %s of the machine" % (
        ", ".join(map(str, ranges)),
        "is" if len(ranges) == 1 else "are",
        ", ".join(names),
        FILE,
    )


def of_machine(proc: str = "/proc", resolvers: Sequence[str] = RESOLVERS) -> List[Taken]:
    """What this machine's routes lead to, its own addresses, and the name servers that it asks."""
    return [*_routes(proc + "/net/route"), *_addresses(proc + "/net/fib_trie"), *_name_servers(resolvers)]


def _range(word: str, where: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(word)
    except ValueError as e:
        raise ValueError("%s: %s is no network such as %s: %s" % (where, word, DEFAULT_RANGES[0], e)) from None
    if network.prefixlen > PREFIX:
        raise ValueError("%s: %s is smaller than the network of one task (/%d)" % (where, word, PREFIX))
    return network


def _blocked(of: ipaddress.IPv4Network, count: int, taken: Sequence[Taken]) -> Set[int]:
    """The numbers of the networks within `of` that somebody has an address of."""
    found: Set[int] = set()
    base, shift = int(of.network_address), 32 - PREFIX
    for one in taken:
        if one.network.overlaps(of):
            first = (int(one.network.network_address) - base) >> shift
            last = (int(one.network.broadcast_address) - base) >> shift
            found.update(range(max(0, first), min(count - 1, last) + 1))
    return found


def _routes(path: str) -> List[Taken]:
    found = []
    for line in _lines(path)[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        address, mask = (socket.ntohl(int(fields[n], 16)) for n in (1, 7))
        prefix = bin(mask).count("1")
        if prefix >= WIDE:
            network = ipaddress.IPv4Network((address & mask, prefix))
            found.append(Taken(network, "the route of %s" % fields[0]))
    return found


def _addresses(path: str) -> List[Taken]:
    found, address = [], ""
    for line in _lines(path):
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[-1:] == ["LOCAL"] and not address.startswith("127."):
            found.append(Taken(ipaddress.IPv4Network(address), "an address of this machine"))
    return found


def _name_servers(paths: Sequence[str]) -> List[Taken]:
    found = []
    for line in (line for path in paths for line in _lines(path)):
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and words[1].count(".") == 3:
            found.append(Taken(ipaddress.IPv4Network(words[1]), "a name server of this machine"))
    return found


def _lines(path: str) -> List[str]:
    """Empty where there is no such file: not every system tells."""
    try:
        with open(path) as f:
            return f.read().splitlines()
    except OSError:
        return []
