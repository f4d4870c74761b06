"""Two hosts as a cluster fleet, and one more, with an image that has Python, OpenMPI and an SSH client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.ssh_fleets.conftest import READY_S, Lab
from support import hosts as test_hosts
from support.docker_engine import unavailable
from support.hosts import Hosts, hosts_up
from support.nodes_image import NODES_IMAGE, import_nodes_image
from support.product import ROOT, product_in_temporary_folder

FLEET = "cluster"
NODES = ("host-a", "host-b")
MORE = ("host-c", "host-d", "host-e")  # for another server: it would not share a host with the fleet's
EXAMPLES = ROOT / "examples" / "distributed"


@pytest.fixture(scope="session")
def nodes() -> Iterator[Hosts]:
    """Hosts; those of NODES have NODES_IMAGE. Skipped, or under CI failed, where none can be made."""
    if reason := test_hosts.missing():
        unavailable(reason)
    with hosts_up((*NODES, *MORE)) as hosts:
        with ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(lambda name: import_nodes_image(hosts[name].docker_url), NODES))
        yield hosts


class Cluster(Lab):
    """The product, with a fleet of two hosts that reach each other."""

    def write(self, name: str, text: str, image: str = NODES_IMAGE) -> str:
        """A task's file; `text` is all but its name, type and image."""
        whole = f"type: task\nname: {name}\nimage: {image}\n{text}\n"
        return self.product.write(whole, f"{name}.dstack.yml")

    def example(self, name: str) -> str:
        """An example as it stands, but for its image: nothing is pulled in tests."""
        text = (EXAMPLES / f"{name}.dstack.yml").read_text()
        images = [line for line in text.splitlines() if line.lstrip().startswith("image: ")]
        for line in images:
            text = text.replace(line, line.partition("image: ")[0] + f"image: {NODES_IMAGE}")
        return self.product.write(text, f"example-{name}.dstack.yml")

    def log(self, run: str, node: int) -> str:
        return self.product.cli("logs", run, "--job", str(node)).ok().out


@pytest.fixture(scope="session")
def cluster(nodes: Hosts) -> Iterator[Cluster]:
    with product_in_temporary_folder() as product:
        product.start()
        lab = Cluster(product, nodes)
        done = lab.apply(FLEET, NODES, "placement: cluster").ok()
        assert done.out.count("idle") == 2
        yield lab
        listed = product.cli("ps", "--json").json()["runs"]  # the last one, where none is active
        active = [run for run in listed if run["status"] not in ("done", "failed", "terminated")]
        for run in active:
            product.cli("stop", "-y", "--abort", run["run_spec"]["run_name"])
        product.cli("fleet", "delete", FLEET, "-y", deadline_s=READY_S)
