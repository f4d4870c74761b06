"""One look at a host: a script over the session, and what its lines mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from ipaddress import ip_interface
from typing import Any

SCRIPT = resources.files("dstack.ssh").joinpath("look.sh").read_text()
OLDEST_PYTHON = (3, 8)


@dataclass(frozen=True)
class Python:
    version: tuple[int, ...]
    path: str


@dataclass(frozen=True)
class Look:
    """What the script said: `values` by key, the last one where a key came more than once; `rows` all of them."""

    values: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def get(self, key: str, default: str = "") -> str:
        return self.values.get(key, default)

    def has(self, key: str) -> bool:
        return key in self.values

    @property
    def root(self) -> bool:
        return self.get("uid") == "0"

    @property
    def uid(self) -> int:
        return int(self.get("uid", "0"))

    @property
    def may_become_root(self) -> bool:
        return self.root or self.has("sudo")

    @property
    def pythons(self) -> tuple[Python, ...]:
        """All that there are, in the order in which they would be taken."""
        found = []
        for row in self.rows.get("python", ()):
            version, _, path = row.partition(" ")
            found.append(Python(version_of(version), path))
        return tuple(found)

    @property
    def python(self) -> Python | None:
        """The first that is new enough for the agent."""
        return next((p for p in self.pythons if p.version >= OLDEST_PYTHON), None)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of the host as `10.0.0.5/24`, without those of container networks."""
        found = []
        for row in self.rows.get("address", ()):
            interface, _, address = row.partition(" ")
            if not re.match(r"(docker|br-|veth|cni|flannel|virbr|lxc)", interface) and _is_address(address):
                found.append(address)
        return tuple(found)

    @property
    def disk_free_bytes(self) -> int | None:
        kib = self.get("disk_free_kib")
        return int(kib) * 1024 if kib.isdigit() else None

    @property
    def owner(self) -> dict[str, Any] | None:
        """What the host's file says of whose it is: {"instance", "label"}."""
        try:
            known = json.loads(self.get("host_id"))
        except ValueError:
            return None
        return known if isinstance(known, dict) else None

    def vendors(self) -> frozenset[str]:
        """Makers of the accelerators in it, by their PCI numbers; AMD's graphics for a screen do not count."""
        found = set()
        for row in self.rows.get("pci", ()):
            vendor, _, kind = row.partition(" ")
            name = PCI_VENDORS.get(vendor)
            if name and kind.startswith(("0x03", "0x12")):
                found.add(name)
        if "amd" in found and not (self.has("amd_kfd") or self.has("amd_smi") or self.has("rocm_smi")):
            found.discard("amd")
        return frozenset(found)


PCI_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x1da3": "intel", "0x1e52": "tenstorrent", "0x1ae0": "google"}


def parse(output: str) -> Look:
    """The script's lines; others (a greeting, a shell's warning) are passed over."""
    rows: dict[str, list[str]] = {}
    for line in output.splitlines():
        key, tab, value = line.partition("\t")
        if tab and re.fullmatch(r"[a-z][a-z0-9_]*", key):
            rows.setdefault(key, []).append(value.strip())
    return Look({key: all_[-1] for key, all_ in rows.items()}, {key: tuple(all_) for key, all_ in rows.items()})


def _is_address(text: str) -> bool:
    """Whatever a host says is kept and reasoned about later: by then it has to be one."""
    try:
        ip_interface(text)
    except ValueError:
        return False
    return True


def version_of(text: str) -> tuple[int, ...]:
    """The first dotted number in a text: `1.14.3` of "NVIDIA Container Toolkit CLI version 1.14.3"."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
