"""One server with many jobs on machines that are only pretended: how soon all run, what it costs that they do.

python bench/engine_load.py [--jobs 1000] [--nodes 200] [--postgresql]

Its clients share the machine with the server; where that has few cores, they take a good part of the time.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from own_server import TOKEN, OwnServer, own_server

from dstack.api import Client
from support import postgres

LIMIT_S = 900.0
CLIENTS = 8
API_S, IDLE_S = 15.0, 20.0
CONFIG = """\
projects:
- name: main
  backends:
  - type: sim
    run: pretend
    pretend: {duration: 12h}
    offers: [{instance_type: node, price: 1.0, cpus: 4, memory: 16GB}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help="how many runs of one job (default 1000)")
    parser.add_argument("--nodes", type=int, default=200, help="how many nodes the large run has (default 200)")
    parser.add_argument("--postgresql", action="store_true", help="on PostgreSQL instead of SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dstack-load-") as folder, _database(options.postgresql) as database:
        (Path(folder) / "config.yml").write_text(CONFIG)
        env = {"DSTACK_SERVER_DIR": folder, "DSTACK_SERVER_LOCAL_BACKEND": "false", **database}
        with own_server(**env) as server, Client(server.url, TOKEN) as client:
            print(f"{options.jobs} jobs, each on a machine of its own, on {'PostgreSQL' if database else 'SQLite'}")
            jobs(server, client, options.jobs)
            api(server)
            idle(server)
            nodes(server, client, options.nodes, options.jobs)


@contextmanager
def _database(postgresql: bool) -> Iterator[dict[str, str]]:
    if not postgresql:
        yield {}
        return
    with postgres.running() as server:
        yield {"DSTACK_DATABASE_URL": postgres.new_database(server)}


def jobs(server: OwnServer, client: Client, count: int) -> None:
    """Submit so many at once, and wait until all run."""
    fleet(client, "cloud", count)
    before, began, cpu = Numbers(server), time.perf_counter(), server.cpu_s()
    forks = threading.local()

    def submit(number: int) -> None:
        if not hasattr(forks, "client"):
            forks.client = Client(server.url, TOKEN)
        forks.client.runs.apply(spec(f"run-{number}"))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(submit, range(count)))
    accepted = time.perf_counter() - began
    until(server, "dstack_jobs", "running", count)
    taken = time.perf_counter() - began
    after = Numbers(server)
    commits = after.total("dstack_engine_commits_total") - before.total("dstack_engine_commits_total")
    show("all accepted after", accepted, "s")
    show("all running after", taken, "s", "60 for 1,000")
    show("engine commits", commits / taken, "/s", f"{commits:.0f} in all")
    show("processor time of the server", server.cpu_s() - cpu, "s")
    show("event-loop lag p99 meanwhile", 1000 * after.lag_p99(before), "ms or less")
    show("resident memory", server.rss_mib(), "MiB", "goal 1536")


def api(server: OwnServer) -> None:
    """What people ask for while all that runs, one after another from a few clients with pauses."""
    chance, before, until_s = random.Random(1), Numbers(server), time.perf_counter() + API_S
    taken: dict[str, list[float]] = {}

    def ask() -> None:
        with Client(server.url, TOKEN) as client:
            asks = {
                "ps": lambda: client.runs.list(only_active=True, limit=100),
                "runs/get": lambda: client.runs.get("run-1"),
                "fleets/list": lambda: client.fleets.list(),
            }
            while time.perf_counter() < until_s:
                for name, call in asks.items():
                    began = time.perf_counter()
                    call()
                    taken.setdefault(name, []).append(time.perf_counter() - began)
                    time.sleep(chance.uniform(0.1, 0.4))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, times in taken.items():
        median = 1000 * statistics.median(times)
        show(f"API p99, {name}", 1000 * quantile(times, 0.99), "ms", f"goal 200; median {median:.0f}, n={len(times)}")
    show("event-loop lag p99 meanwhile", 1000 * Numbers(server).lag_p99(before), "ms or less", "goal 50")


def idle(server: OwnServer) -> None:
    time.sleep(5)
    cpu, began = server.cpu_s(), time.perf_counter()
    time.sleep(IDLE_S)
    show("when nothing changes", 100 * (server.cpu_s() - cpu) / (time.perf_counter() - began), "% of a core", "goal 5")


def nodes(server: OwnServer, client: Client, count: int, others: int) -> None:
    fleet(client, "gang", count, placement="cluster")
    began = time.perf_counter()
    client.runs.apply(spec("gang", nodes=count, fleets=["gang"]))
    until(server, "dstack_jobs", "running", others + count)
    show(f"{count} nodes submitted to running", time.perf_counter() - began, "s", "goal 20 for 200")
    began = time.perf_counter()
    client.runs.stop(["gang"], abort=False)
    until(server, "dstack_jobs", "running", others)
    while client.runs.get("gang")["status"] != "terminated":
        time.sleep(0.1)
    show(f"{count} nodes stopped to terminated", time.perf_counter() - began, "s", "goal 20 for 200")


def spec(name: str, **fields: Any) -> dict[str, Any]:
    configuration = {"type": "task", "name": name, "commands": ["sleep 1d"], "image": "busybox", **fields}
    return {"run_name": name, "repo_data": {"repo_type": "virtual"}, "repo_id": "none", "configuration": configuration}


def fleet(client: Client, name: str, most: int, **fields: Any) -> None:
    configuration = {"type": "fleet", "name": name, "nodes": f"0..{most}", "idle_duration": "1h", **fields}
    client.fleets.apply({"configuration": configuration, "profile": {"name": "default"}})


class Numbers:
    """What /metrics says at one instant."""

    def __init__(self, server: OwnServer):
        request = urllib.request.Request(f"{server.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            self._text = answer.read().decode()

    def total(self, name: str, *labels: str) -> float:
        found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", self._text, re.M)
        return sum(float(value) for told, value in found if all(f'"{one}"' in told for one in labels))

    def lag_p99(self, before: Numbers) -> float:
        """The bucket's bound, in seconds, below which 99 of 100 samples since `before` lie."""
        found = re.findall(r'^dstack_event_loop_lag_seconds_bucket{le="(\S+)"} (\S+)$', self._text, re.M)
        counts = [(float(bound), float(count) - before._bucket(bound)) for bound, count in found]
        return next(bound for bound, count in counts if count >= 0.99 * counts[-1][1])

    def _bucket(self, bound: str) -> float:
        return self.total("dstack_event_loop_lag_seconds_bucket", bound)


def until(server: OwnServer, name: str, status: str, count: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while (have := (now := Numbers(server)).total(name, status)) != count:
        if now.total(name, "failed"):
            raise SystemExit("jobs fail: the server's log tells why")
        if time.monotonic() > deadline:
            raise SystemExit(f"{name} {status}: {have:.0f} of {count} after {LIMIT_S:.0f} s")
        time.sleep(0.5)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def show(what: str, value: float, unit: str, note: str = "") -> None:
    print(f"  {what:36} {value:10.2f} {unit:12} {f'({note})' if note else ''}", flush=True)


if __name__ == "__main__":
    main()
