"""One server with many jobs on machines that are only pretended: how soon all run, and what it costs that they do.

python bench/engine_load.py [--jobs 1000] [--nodes 200] [--postgresql] [--api 15] [--idle 20]

Prints each figure of the load goals, with the goal. The server is a process of its own, ended at the end; its clients
share the machine with it, and where that has few cores they take a good part of the time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from own_server import TOKEN, OwnServer, own_server

from dstack.api import Client
from support import postgres

LIMIT_S = 1800.0
CLIENTS = 8
SETTLE_S = 5.0
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "ps": ("/api/runs/list", {"project_name": "main", "only_active": True, "limit": 100, "job_submissions_limit": 1}),
    "runs/get": ("/api/project/main/runs/get", {"run_name": "run-1"}),
    "fleets/list": ("/api/project/main/fleets/list", {}),
}
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
    parser.add_argument("--nodes", type=int, default=200, help="nodes of the large run, 0: without it (default 200)")
    parser.add_argument("--postgresql", action="store_true", help="on PostgreSQL instead of SQLite")
    parser.add_argument("--api", type=float, default=15.0, help="seconds of requests while all run (default 15)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of watching it do nothing (default 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dstack-load-") as folder, _database(options.postgresql) as database:
        (Path(folder) / "config.yml").write_text(CONFIG)
        env = {"DSTACK_SERVER_DIR": folder, "DSTACK_SERVER_LOCAL_BACKEND": "false", **database}
        ended = 0.0
        with own_server(**env) as server, Client(server.url, TOKEN) as client:
            count = counter(Path(folder), server)
            title(options.jobs, options.postgresql)
            if options.jobs:
                jobs(server, client, options.jobs, count)
                api(server, options.api)
                idle(server, options.idle)
            if options.nodes:
                nodes(server, client, options.nodes, options.jobs, count)
            ended = time.perf_counter()
        show("stopped after", time.perf_counter() - ended, "s")
        with own_server(**env) as server:
            restarted(server, options.jobs)


@contextmanager
def _database(postgresql: bool) -> Iterator[dict[str, str]]:
    if not postgresql:
        yield {}
        return
    with postgres.running() as server:
        yield {"DSTACK_DATABASE_URL": postgres.new_database(server)}


def title(jobs: int, postgresql: bool) -> None:
    load, cores = os.getloadavg()[0], os.cpu_count()
    on = "PostgreSQL" if postgresql else "SQLite"
    print(f"{jobs} jobs, each on a machine of its own, on {on}; {cores} cores with a load of {load:.1f} before")
    print(f"  {'figure':38} {'value':>10} {'unit':12} goal")


def jobs(server: OwnServer, client: Client, number: int, count: Callable[[str], int]) -> None:
    """Submit so many at once, and wait until all run."""
    fleet(client, "cloud", number)
    before, began, cpu = Numbers(server), time.perf_counter(), server.cpu_s()
    forks = threading.local()

    def submit(n: int) -> None:
        if not hasattr(forks, "client"):
            forks.client = Client(server.url, TOKEN)
        forks.client.runs.apply(spec(f"run-{n}"))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(submit, range(number)))
    accepted = time.perf_counter() - began
    until(count, number)
    taken, used = time.perf_counter() - began, server.cpu_s() - cpu
    after = Numbers(server)
    commits = after.total("dstack_engine_commits_total") - before.total("dstack_engine_commits_total")
    show("submitted, all accepted after", accepted, "s")
    show("submitted, all running after", taken, "s", "60 for 1,000")
    show("engine commits", commits / taken, "/s", note=f"{commits:.0f} in all")
    show("processor time of the server, each run", 1000 * used / number, "ms")
    show("event-loop lag p99 meanwhile", 1000 * after.lag_p99(before), "ms or less")
    show("resident memory", server.rss_mib(), "MiB", "1536")


def api(server: OwnServer, seconds: float) -> None:
    """What people ask for while all that runs, one after another from a few clients with pauses.

    An answer is timed until its last byte is here. To parse it is the asking program's work, which would keep the other
    clients, threads of this process, from reading theirs: it is told apart.
    """
    time.sleep(SETTLE_S)
    chance, before, until_s = random.Random(1), Numbers(server), time.perf_counter() + seconds
    taken: dict[str, list[float]] = {}
    first, listing = Asker(server).timed("fleets/list")
    show("first fleets/list after the changes", 1000 * first, "ms", note=f"{len(listing) / 1e6:.1f} MB")

    def ask() -> None:
        asker = Asker(server)
        while time.perf_counter() < until_s:
            for name in ASKED:
                taken.setdefault(name, []).append(asker.timed(name)[0])
                time.sleep(chance.uniform(0.1, 0.4))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, times in taken.items():
        note = f"median {1000 * statistics.median(times):.0f}, n={len(times)}"
        show(f"API p99, {name}", 1000 * quantile(times, 0.99), "ms", "200", note)
    show("event-loop lag p99 meanwhile", 1000 * Numbers(server).lag_p99(before), "ms or less", "50")
    began = time.perf_counter()
    json.loads(listing)
    show("fleets/list, parsed by who asked", 1000 * (time.perf_counter() - began), "ms")
    show("resident memory after that", server.rss_mib(), "MiB", "1536")


class Asker:
    """One kept-alive connection, as a client has it."""

    def __init__(self, server: OwnServer):
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)

    def timed(self, name: str) -> tuple[float, bytes]:
        """Seconds until the whole answer was here, and the answer."""
        path, body = ASKED[name]
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        began = time.perf_counter()
        self._connection.request("POST", path, json.dumps(body), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {content.decode()}")
        return time.perf_counter() - began, content


def idle(server: OwnServer, seconds: float) -> None:
    time.sleep(SETTLE_S)
    cpu, began = server.cpu_s(), time.perf_counter()
    time.sleep(seconds)
    show("when nothing changes", 100 * (server.cpu_s() - cpu) / (time.perf_counter() - began), "% of a core", "5")


def nodes(server: OwnServer, client: Client, number: int, others: int, count: Callable[[str], int]) -> None:
    fleet(client, "gang", number, placement="cluster")
    began, cpu = time.perf_counter(), server.cpu_s()
    client.runs.apply(spec("gang", nodes=number, fleets=["gang"]))
    until(count, others + number)
    show(f"{number} nodes, submitted to running", time.perf_counter() - began, "s", "20 for 200")
    began = time.perf_counter()
    client.runs.stop(["gang"], abort=False)
    until(count, others)
    while client.runs.get("gang")["status"] != "terminated":
        time.sleep(0.5)
    show(f"{number} nodes, stopped to terminated", time.perf_counter() - began, "s", "20 for 200")
    show("processor time of the server, each node", 1000 * (server.cpu_s() - cpu) / number, "ms")


def restarted(server: OwnServer, hosts: int) -> None:
    """How soon a new server has found all hosts again, and what people wait for meanwhile."""
    asker, slowest, began = Asker(server), 0.0, time.perf_counter()
    while True:  # what is asked before all are there counts, the numbers as well: they wait as people do
        asked = time.perf_counter()
        up = Numbers(server).total("dstack_host_links", "up")
        slowest = max(slowest, time.perf_counter() - asked, asker.timed("ps")[0], asker.timed("runs/get")[0])
        if up >= hosts:
            break
    show("started again, all hosts linked after", server.started_s + time.perf_counter() - began, "s")
    show("slowest answer meanwhile", 1000 * slowest, "ms")


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


def counter(folder: Path, server: OwnServer) -> Callable[[str], int]:
    """How many jobs have a status. A file is looked into: to ask the server is work for it, which is measured here."""
    file = folder / "data" / "sqlite.db"
    if not file.exists():
        return lambda status: int(Numbers(server).total("dstack_jobs", status))
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)
    question = "SELECT count(*) FROM job WHERE status = ?"
    return lambda status: reader.execute(question, (status,)).fetchone()[0]


def until(count: Callable[[str], int], running: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while (have := count("running")) != running:
        if count("failed"):
            raise SystemExit("jobs fail: the server's log tells why")
        if time.monotonic() > deadline:
            raise SystemExit(f"{have} of {running} jobs run after {LIMIT_S:.0f} s")
        time.sleep(0.25)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def show(what: str, value: float, unit: str, goal: str = "", note: str = "") -> None:
    print(f"  {what:38} {value:10.2f} {unit:12} {goal:14} {note}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
