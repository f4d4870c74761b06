"""How fast a container's log gets from an SSH host into the server's store, and whether loss is told. Needs root.

python bench/log_rate.py [--mb 250]             beside what the host's engine alone does
python bench/log_rate.py --no-shell [--mb 250]  a job without a shell of ours, whose output the engine copies
python bench/log_rate.py --outrun [--mb 250]    such a job prints more than the engine keeps, and nobody takes it
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from own_server import TOKEN, own_server
from ssh_fleet import set_up
from submit_to_log import remove_fleet

from dstack.api import Client
from support.docker_engine import BUSYBOX_IMAGE, call
from support.hosts import hosts_up
from support.hosts_one import TestHost

HOST = "host-a"
LINE = "x" * 99
MB = 1_000_000
GOAL_MB_S = 25.0
TOLD = b"bytes of log were lost"
KEEPER = "agent.pyz keep "
LOG_OPTIONS = ("--log-driver", "json-file", "--log-opt", "max-size=20m", "--log-opt", "max-file=5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=250, help="size of the log (default 250)")
    parser.add_argument("--no-shell", action="store_true", help="the log comes by way of the engine")
    parser.add_argument("--outrun", action="store_true", help="lose some of it")
    options = parser.parse_args()
    size = options.mb * MB
    no_quota = {"DSTACK_SERVER_LOG_QUOTA_PER_JOB_HOUR": "0"}
    with hosts_up([HOST]) as hosts, own_server(**no_quota) as server, Client(server.url, TOKEN) as client:
        alone = engine_alone(hosts[HOST], size)
        try:
            set_up(client, hosts, [HOST])
            run = submit(client, size, options.no_shell or options.outrun)
            if options.outrun:
                stand_still(hosts[HOST])
            log, taken = follow(client, run["jobs"][0]["job_submissions"][0]["id"])
            wait(client, run)
        finally:
            remove_fleet(client)
    lines = log.count(LINE.encode())
    lost = size - lines * (len(LINE) + 1)
    loss = f"lost {lost} bytes, {'told' if TOLD in log else 'no loss told'}"
    rate = f"{lines / 10_000 / taken:.1f} MB/s (goal {GOAL_MB_S:.0f}; the engine alone {size / MB / alone:.1f})"
    print(f"log of {options.mb} MB in lines of 100 bytes, SSH host: {rate}; {loss}")


def command(size: int) -> str:
    return f"yes {LINE} | head -c {size}"


def engine_alone(host: TestHost, size: int) -> float:
    """Seconds in which the host's engine writes such a log, with nobody reading it."""
    docker = ["docker", "-H", host.docker_url]
    began = time.perf_counter()
    argv = [*docker, "run", "-d", "-t", *LOG_OPTIONS, BUSYBOX_IMAGE, "sh", "-c", command(size)]
    name = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*docker, "wait", name], check=True, capture_output=True)
    taken = time.perf_counter() - began
    subprocess.run([*docker, "rm", name], check=True, capture_output=True)
    return taken


def submit(client: Client, size: int, no_shell: bool) -> dict[str, Any]:
    """Start a job that prints so many bytes."""
    configuration: dict[str, Any] = {"type": "task", "name": "prints", "image": BUSYBOX_IMAGE}
    if no_shell:
        configuration["entrypoint"] = f"sh -c '{command(size)}'"
    else:
        configuration["commands"] = [command(size)]
    spec = {"run_name": "prints", "repo_data": {"repo_type": "virtual"}, "repo_id": "none"}
    return client.runs.apply({**spec, "configuration": configuration})


def stand_still(host: TestHost) -> None:
    """Stop who takes the log while the job runs."""
    while not (
        keepers := [row.split()[0] for row in host.run("ps", "-eo", "pid=,args=").splitlines() if KEEPER in row]
    ):
        time.sleep(0.05)
    host.run("kill", "-STOP", *keepers)
    while call(host.docker_url, "GET", "/containers/json"):
        time.sleep(0.1)
    host.run("kill", "-CONT", *keepers)


def follow(client: Client, submission: str) -> tuple[bytes, float]:
    """The log, and the seconds from its first piece to its last."""
    pieces, began = [], 0.0
    for piece in client.logs.follow(submission):
        began = began or time.perf_counter()
        pieces.append(piece.data)
    return b"".join(pieces), time.perf_counter() - began


def wait(client: Client, run: dict[str, Any]) -> None:
    """Until it is over."""
    seen: int | None = None
    while run["status"] not in ("done", "failed", "terminated"):
        latest, seen = client.runs.watch(id=run["id"], seen=seen)
        run = latest or run


if __name__ == "__main__":
    main()
