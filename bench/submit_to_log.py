"""How long it takes from the request that submits a task to the first line of its log, on an idle instance.

python bench/submit_to_log.py [--runs 15]                       as a process of this machine
python bench/submit_to_log.py --docker-image busybox [--runs 15]   in a container; the engine has the image
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from own_server import TOKEN, own_server

from dstack.api import Client

FLEET = "bench"
LIMIT_S = 60.0
GOALS_S = {"process": 0.3, "docker": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="how many tasks are submitted (default 15)")
    parser.add_argument("--docker-image", metavar="IMAGE", help="run containers of this image")
    options = parser.parse_args()
    runtime = "docker" if options.docker_image else "process"
    with own_server(DSTACK_SERVER_LOCAL_RUNTIME=runtime) as server, Client(server.url, TOKEN) as client:
        make_fleet(client)
        try:
            taken = [submit(client, f"run-{n}", options.docker_image) for n in range(options.runs)]
        finally:
            remove_fleet(client)
    print(
        f"submit to first log line, {runtime}: median {statistics.median(taken):.3f} s  "
        f"slowest {max(taken):.3f} s  (goal {GOALS_S[runtime]} s)"
    )


def submit(client: Client, name: str, image: str | None) -> float:
    """Seconds from the request to the first byte of the log; returns once the run is over."""
    configuration: dict[str, Any] = {"type": "task", "name": name, "commands": ["echo here"]}
    configuration |= {"image": image} if image else {}
    spec = {"run_name": name, "repo_data": {"repo_type": "virtual"}, "repo_id": "none", "configuration": configuration}
    began = time.perf_counter()
    run = client.runs.apply(spec)
    pieces = client.logs.follow(run["jobs"][0]["job_submissions"][0]["id"])
    next(pieces)
    taken = time.perf_counter() - began
    seen: int | None = None
    while run["status"] not in ("done", "failed", "terminated"):
        latest, seen = client.runs.watch(id=run["id"], seen=seen)
        run = latest or run
    if run["status"] != "done":
        raise SystemExit(f"{name} is {run['status']}: {client.runs.why(name)['lines']}")
    return taken


def make_fleet(client: Client) -> None:
    """One instance, idle."""
    client.fleets.apply({"configuration": {"type": "fleet", "name": FLEET, "nodes": 1}, "profile": {"name": "default"}})
    deadline = time.monotonic() + LIMIT_S
    while [i["status"] for i in client.fleets.get(FLEET)["instances"]] != ["idle"]:
        if time.monotonic() > deadline:
            raise SystemExit("the instance did not become idle")
        time.sleep(0.1)


def remove_fleet(client: Client) -> None:
    for run in client.runs.list(only_active=True):
        client.runs.stop([run["run_spec"]["run_name"]], abort=True)
    deadline = time.monotonic() + LIMIT_S
    client.fleets.delete([FLEET])
    while any(fleet["name"] == FLEET for fleet in client.fleets.list()) and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
