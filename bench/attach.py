"""From typing `dstack attach RUN` to a prompt in the run.

python bench/attach.py [--runs 9]            a run on an SSH host of our own; needs root
python bench/attach.py --local [--runs 9]    a run that is a process of this machine
"""

from __future__ import annotations

import argparse
import os
import pty
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from own_server import SOURCES, TOKEN, own_server
from ssh_fleet import set_up
from submit_to_log import LIMIT_S, make_fleet, remove_fleet

from dstack.api import Client
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts import hosts_up

GOAL_S = 1.0
RUN = "inside"
ATTACHED = b"To connect to the run via SSH"
PROMPT = b"ready-42"


class Taken(NamedTuple):
    """Seconds: until one is told how to get in, and from then to a prompt."""

    told_s: float
    prompt_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="how often one attaches (default 9)")
    parser.add_argument("--local", action="store_true", help="without an SSH host")
    options = parser.parse_args()
    with _run(options.local) as home:
        taken = [attach(home) for _ in range(options.runs)]
    place = "process of this machine" if options.local else "SSH host"
    both = [each.told_s + each.prompt_s for each in taken]
    print(
        f"attach, {place}: told how to get in after {_median(each.told_s for each in taken):.3f} s, "
        f"a prompt {_median(each.prompt_s for each in taken):.3f} s later; "
        f"attach to prompt: median {_median(both):.3f} s  slowest {max(both):.3f} s  (goal {GOAL_S} s)"
    )


@contextmanager
def _run(local: bool) -> Iterator[Path]:
    """The home of a person who has a run to attach to."""
    if local:
        with own_server(DSTACK_SERVER_LOCAL_RUNTIME="process") as server, Client(server.url, TOKEN) as client:
            make_fleet(client)
            yield from _started(client, server.folder, None)
        return
    with hosts_up(("host-a",)) as hosts, own_server() as server, Client(server.url, TOKEN) as client:
        set_up(client, hosts, ("host-a",))
        yield from _started(client, server.folder, BUSYBOX_IMAGE)


def _started(client: Client, home: Path, image: str | None) -> Iterator[Path]:
    try:
        _start(client, image)
        _log_in(client, home)
        yield home
    finally:
        client.runs.stop([RUN], abort=True)
        _wait_until(client, client.runs.get(RUN), "terminated", "failed")
        remove_fleet(client)


def _start(client: Client, image: str | None) -> None:
    configuration: dict[str, Any] = {"type": "task", "name": RUN, "commands": ["sleep 10000"]}
    configuration |= {"image": image} if image else {}
    spec = {"run_name": RUN, "repo_data": {"repo_type": "virtual"}, "repo_id": "none", "configuration": configuration}
    _wait_until(client, client.runs.apply(spec), "running")


def _wait_until(client: Client, run: dict[str, Any], *statuses: str) -> None:
    seen, began = None, time.monotonic()
    while run["status"] not in statuses:
        latest, seen = client.runs.watch(id=run["id"], seen=seen)
        run = latest or run
        if time.monotonic() - began > LIMIT_S:
            raise SystemExit(f"{RUN} is {run['status']}: {client.runs.why(RUN)['lines']}")


def _log_in(client: Client, home: Path) -> None:
    folder = home / ".dstack"
    folder.mkdir(exist_ok=True)
    project = f"{{default: true, name: main, url: '{client.url}', token: '{TOKEN}'}}"
    (folder / "config.yml").write_text(f"projects:\n- {project}\n")


def attach(home: Path) -> Taken:
    """What `dstack attach RUN` and the first `ssh RUN` after it take; leaves again."""
    env = {**os.environ, "HOME": str(home), "PYTHONPATH": SOURCES}
    began = time.perf_counter()
    command = subprocess.Popen(
        [sys.executable, "-m", "dstack.cli.main", "attach", RUN],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert command.stdout is not None
    said = b""
    while ATTACHED not in said:
        piece = command.stdout.readline()
        if not piece:
            raise SystemExit(f"attach ended: {said.decode()}")
        said += piece
    told = time.perf_counter()
    _prompt(home, env)
    prompt = time.perf_counter()
    command.send_signal(signal.SIGTERM)
    command.wait(LIMIT_S)
    return Taken(told - began, prompt - told)


def _prompt(home: Path, env: dict[str, str]) -> None:
    """`ssh RUN` on a terminal, until its shell has answered what was typed."""
    ours, theirs = pty.openpty()
    ssh = subprocess.Popen(
        ["ssh", "-F", str(home / ".ssh" / "config"), RUN],
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, b"echo ready-$((6*7))\n")
    said = b""
    while PROMPT not in said:
        said += os.read(ours, 65536)
    ssh.kill()
    ssh.wait(LIMIT_S)
    os.close(ours)


def _median(values: Any) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
