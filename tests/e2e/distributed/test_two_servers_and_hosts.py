"""Two servers hold the hosts of one fleet: when one of them is killed, the other takes its hosts over."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from e2e.distributed.conftest import FLEET, MORE, Cluster
from support import postgres
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts import Hosts
from support.product import eventually
from support.several import Servers, counted, several

pytestmark = [pytest.mark.root, pytest.mark.docker]
PATIENCE_S = 90.0
TAKEOVER_S = 30.0  # 15 on a machine with nothing else to do: `bench/several_servers.py`
STOP = "/var/tmp/stop"
COUNT = 'n=0; while [ ! -e /stop/now ]; do n=$((n+1)); echo "line $n"; sleep 0.1; done; echo "end $n"'


@pytest.fixture
def servers() -> Iterator[Servers]:
    with postgres.running() as server, several(server, "ab") as servers:
        yield servers


@pytest.mark.timeout(300)
def test_of_two_servers_one_is_killed_and_the_other_goes_on_with_all_hosts(servers: Servers, nodes: Hosts) -> None:
    servers.start("ab")
    labs = {name: Cluster(servers.of[name], nodes) for name in "ab"}
    a, b = labs["a"].product, labs["b"].product
    labs["a"].apply(FLEET, MORE, "placement: cluster").ok()
    text = f"nodes: {len(MORE)}\nvolumes: ['{STOP}:/stop']\ncommands: {json.dumps([COUNT])}"
    a.cli("apply", "-y", "-d", "-f", labs["a"].write("counting", text, BUSYBOX_IMAGE)).ok()
    b.wait_status("counting", "running", deadline_s=PATIENCE_S)
    eventually(lambda: len(servers.held()) == 2, PATIENCE_S, lambda: f"not shared: {servers.held()}")

    a.stop(signal.SIGKILL)
    eventually(lambda: servers.held() == {"b": len(MORE)}, TAKEOVER_S, lambda: f"held by {servers.held()}")
    a.start()
    for name in MORE:
        nodes[name].write(f"{STOP}/now", "")
    ended = b.wait_status("counting", "done", "failed", "terminated", deadline_s=PATIENCE_S)
    assert ended["status"] == "done", ended
    logs = [product.cli("logs", "counting", "--all").ok().out for product in (a, b)]
    assert logs[0] == logs[1]
    for node in range(len(MORE)):
        prefix = f"[job {node}] "
        own = [line.removeprefix(prefix) for line in logs[0].splitlines() if line.startswith(prefix)]
        assert counted("\n".join(own))
    b.cli("fleet", "delete", FLEET, "-y", deadline_s=PATIENCE_S).ok()
