"""Test hosts, and a server whose person brings them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from support.docker_engine import BUSYBOX_IMAGE
from support.hosts import Hosts
from support.hosts_one import SUDOER
from support.product import ROOT, Ended, Product, eventually, product_in_temporary_folder

READY_S = 90.0


EXAMPLES = ROOT / "examples" / "ssh"
WRITTEN = {"192.168.100.1": "host-a", "192.168.100.2": "host-b", "192.168.100.3": "host-c"}


class Lab:
    """The product and the hosts that the person turns into fleets with it."""

    def __init__(self, product: Product, hosts: Hosts):
        self.product = product
        self.hosts = hosts

    def file(self, name: str, hosts: Sequence[str | dict[str, Any]], more: str = "") -> str:
        """A fleet file; hosts are named as in `Hosts`, or written out."""
        listed = [self.hosts[one].address if isinstance(one, str) else one for one in hosts]
        text = f"type: fleet\nname: {name}\nssh_config:\n  user: {SUDOER}\n  identity_file: {self.hosts.key}\n"
        return self.product.write(f"{text}  hosts: {json.dumps(listed)}\n{more}", f"{name}.dstack.yml")

    def example(self, example: str, name: str = "") -> str:
        """An example as it stands, but for addresses, key and image: nothing is pulled in tests; `name` is its name."""
        text = (EXAMPLES / f"{example}.dstack.yml").read_text()
        for address, host in WRITTEN.items():
            text = text.replace(address, self.hosts[host].address)
        text = text.replace("~/.ssh/id_ed25519", str(self.hosts.key)).replace(
            "image: busybox", f"image: {BUSYBOX_IMAGE}"
        )
        own = next(line for line in text.splitlines() if line.startswith("name: "))
        return self.product.write(text.replace(own, f"name: {name}") if name else text, f"{name or example}.dstack.yml")

    def apply(self, name: str, hosts: Sequence[str | dict[str, Any]], more: str = "") -> Ended:
        return self.product.cli("apply", "-y", "-f", self.file(name, hosts, more), deadline_s=READY_S)

    def instances(self, name: str) -> list[dict[str, Any]]:
        return self.product.cli("fleet", "get", name, "--json").json()["instances"]

    def instance(self, name: str, host: str) -> dict[str, Any]:
        return next(i for i in self.instances(name) if i["x_host"] == self.hosts[host].address)

    def until_unreachable(self, name: str, host: str, wanted: bool = True) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            seen = self.instance(name, host)
            return seen if seen["unreachable"] is wanted else None

        what = "unreachable" if wanted else "back"
        return eventually(look, READY_S, lambda: f"{host} is not {what}") or {}

    def task(self, name: str, *commands: str, on: str) -> str:
        more = f"image: {BUSYBOX_IMAGE}\ninstances:\n  - hostname: {self.hosts[on].address}"
        return self.product.task(name, *commands, more=more)


@pytest.fixture(scope="module")
def lab(hosts: Hosts) -> Iterator[Lab]:
    """A running server; all of its fleets are gone from the hosts at the end."""
    with product_in_temporary_folder() as product:
        product.start()
        yield Lab(product, hosts)
        for fleet in product.cli("fleet", "list", "--json").json()["fleets"]:
            for run in _runs(fleet):
                product.cli("stop", "-y", "--abort", run)  # it may just have ended
                product.wait_status(run, "terminated", "failed", "done", deadline_s=READY_S)
            product.cli("fleet", "delete", fleet["name"], "-y", deadline_s=READY_S)


def _runs(fleet: dict[str, Any]) -> list[str]:
    return sorted({run for one in fleet["instances"] for run in one["x_runs"]})
