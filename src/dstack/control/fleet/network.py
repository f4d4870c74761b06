"""Which network the hosts of a cluster have in common, and what each is called in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from dstack.control.wording import some

Interface = IPv4Interface | IPv6Interface


def internal_addresses(hosts: Mapping[str, Sequence[str]]) -> dict[str, str] | None:
    """The address of each host in a network that all share; None when there is none.

    `hosts`: addresses such as `10.0.0.5/24` by host. A network counts where each host has an address of its own in it
    (that of Docker's bridge is the same on all) which cannot be reached from everywhere. The narrowest wins.
    """
    inside = {host: _inside(addresses) for host, addresses in hosts.items()}
    common = set.intersection(*({one.network for one in found} for found in inside.values())) if inside else set()
    for network in sorted(common, key=lambda n: (-n.prefixlen, n.version, int(n.network_address))):
        chosen = {host: next(i for i in found if i.network == network) for host, found in inside.items()}
        if len({one.ip for one in chosen.values()}) == len(chosen):
            return {host: str(one.ip) for host, one in chosen.items()}
    return None


def no_common_network(hosts: Mapping[str, Sequence[str]]) -> str:
    """What a person needs to see to mend it: `10.0.0.5 has 10.0.0.5/24; gpu2 has 10.1.0.7/24`."""
    has = "; ".join(f"{host} has {some(_shown(addresses), 4) or 'none'}" for host, addresses in hosts.items())
    return f"The hosts have no network in common, which `placement: cluster` needs: {has}"


def _shown(addresses: Sequence[str]) -> list[str]:
    return [str(one) for one in _inside(addresses)]


def _inside(addresses: Sequence[str]) -> list[Interface]:
    found = [ip_interface(text) for text in addresses]
    return [one for one in found if not (one.ip.is_loopback or one.ip.is_link_local or one.ip.is_global)]
