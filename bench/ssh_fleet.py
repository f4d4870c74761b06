"""From three fresh hosts to three idle instances, and from a submit to the first log line on one. Needs root.

python bench/ssh_fleet.py [--runs 15]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from own_server import TOKEN, own_server
from submit_to_log import FLEET, LIMIT_S, remove_fleet, submit

from dstack.api import Client
from dstack.ssh.keys import private_key, public_line
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts import Hosts, hosts_up
from support.hosts_one import SUDOER

NAMES = ("host-a", "host-b", "host-c")
IDLE_GOAL_S, LOG_GOAL_S = 15.0, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="how many tasks are submitted (default 15)")
    runs = parser.parse_args().runs
    with hosts_up(NAMES) as hosts, own_server() as server, Client(server.url, TOKEN) as client:
        try:
            print(f"three fresh hosts to idle: {set_up(client, hosts):.1f} s  (goal {IDLE_GOAL_S:.0f} s)")
            taken = [submit(client, f"run-{n}", BUSYBOX_IMAGE) for n in range(runs)]
        finally:
            remove_fleet(client)
    print(
        f"submit to first log line, SSH host: median {statistics.median(taken):.3f} s  "
        f"slowest {max(taken):.3f} s  (goal {LOG_GOAL_S} s)"
    )


def set_up(client: Client, hosts: Hosts, names: Sequence[str] = NAMES, placement: str = "any") -> float:
    """Seconds from the request until all hosts are idle."""
    text = hosts.key.read_text()
    key = {"public": public_line(private_key(text)), "private": text}
    ssh = {"user": SUDOER, "identity_file": "key", "ssh_key": key, "hosts": [hosts[name].address for name in names]}
    began = time.perf_counter()
    configuration = {"type": "fleet", "name": FLEET, "ssh_config": ssh, "placement": placement}
    client.fleets.apply({"configuration": configuration, "profile": {"name": "default"}})
    while [i["status"] for i in client.fleets.get(FLEET)["instances"]] != ["idle"] * len(names):
        if time.perf_counter() - began > LIMIT_S:
            raise SystemExit(f"the hosts did not become idle: {client.fleets.why(FLEET)['lines']}")
        time.sleep(0.05)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
