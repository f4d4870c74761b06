"""How long a task on two hosts takes from the request that submits it until both nodes run. Needs root.

python bench/two_nodes.py [--runs 10]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from own_server import TOKEN, own_server
from ssh_fleet import set_up
from submit_to_log import FLEET, LIMIT_S, remove_fleet

from dstack.api import Client
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts import hosts_up

NAMES = ("host-a", "host-b")
GOAL_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="how many tasks are submitted (default 10)")
    runs = parser.parse_args().runs
    with hosts_up(NAMES) as hosts, own_server() as server, Client(server.url, TOKEN) as client:
        try:
            set_up(client, hosts, NAMES, "cluster")
            taken = [both_running(client, f"pair-{n}") for n in range(runs)]
        finally:
            remove_fleet(client)
    print(
        f"two-node task, submit to both running: median {statistics.median(taken):.3f} s  "
        f"slowest {max(taken):.3f} s  (goal {GOAL_S} s)"
    )


def both_running(client: Client, name: str) -> float:
    """Seconds from the request until both jobs run; returns when both hosts are free again."""
    configuration: dict[str, Any] = {"type": "task", "name": name, "nodes": 2, "image": BUSYBOX_IMAGE}
    configuration["commands"] = ["sleep 1000"]
    spec = {"run_name": name, "repo_data": {"repo_type": "virtual"}, "repo_id": "none", "configuration": configuration}
    began = time.perf_counter()
    run, seen = client.runs.apply(spec), None
    while [job["job_submissions"][-1]["status"] for job in run["jobs"]] != ["running"] * 2:
        if run["status"] in ("done", "failed", "terminated"):
            raise SystemExit(f"{name} is {run['status']}: {client.runs.why(name)['lines']}")
        latest, seen = client.runs.watch(id=run["id"], seen=seen)
        run = latest or run
    taken = time.perf_counter() - began
    client.runs.stop([name], abort=True)
    deadline = time.monotonic() + LIMIT_S
    while [i["status"] for i in client.fleets.get(FLEET)["instances"]] != ["idle"] * 2:
        if time.monotonic() > deadline:
            raise SystemExit("the hosts did not become idle again")
        time.sleep(0.05)
    return taken


if __name__ == "__main__":
    main()
