"""How many requests a second the API answers with 1,000 runs in its database, and how much memory that takes.

python bench/http_api.py [--seconds 5] [--runs 1000]

`wrk` makes the load where it is installed, else connections of our own, which take processor time away from the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from own_server import TOKEN, OwnServer, own_server
from submit_to_log import LIMIT_S, make_fleet, remove_fleet, submit

from dstack.api import Client

ACTIVE = 2
RSS_GOAL_MIB = 200


class Load(NamedTuple):
    """One request, on so many connections; `goal` in requests/s."""

    name: str
    path: str
    body: dict | None
    connections: int
    goal: int


PS = {"project_name": "main", "include_jobs": True, "job_submissions_limit": 1, "limit": 100}
LOADS = (
    Load("runs/list, 100 of all", "/api/runs/list", PS | {"only_active": False}, 1, 100),
    Load("users/get_my_user", "/api/users/get_my_user", None, 10, 700),
    Load("ps, only active", "/api/runs/list", PS | {"only_active": True}, 10, 600),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default 5)")
    parser.add_argument("--runs", type=int, default=1000, help="how many there are (default 1000)")
    options = parser.parse_args()
    with own_server(DSTACK_SERVER_LOCAL_RUNTIME="process") as server, Client(server.url, TOKEN) as client:
        make_fleet(client)
        try:
            submit(client, "one", None)
            multiply(server.folder / "server" / "data" / "sqlite.db", options.runs)
            for number in range(ACTIVE):
                sleeper(client, f"active-{number}")
            for load in LOADS:
                measure(server, load, options.seconds)
            print(f"{'resident memory after that':28} {server.rss_mib():8.0f} MiB   (goal {RSS_GOAL_MIB})")
            print(
                f"{'a revoked token is refused':28} {revoked_after(server.url):8.3f} s after the answer that revoked it"
            )
        finally:
            end_all(client)
            remove_fleet(client)


def end_all(client: Client) -> None:
    names = [run["run_spec"]["run_name"] for run in client.runs.list(only_active=True)]
    client.runs.stop(names, abort=True)
    deadline = time.monotonic() + LIMIT_S
    while client.runs.list(only_active=True) and time.monotonic() < deadline:
        time.sleep(0.1)


def sleeper(client: Client, name: str) -> None:
    configuration = {"type": "task", "name": name, "commands": ["sleep 600"]}
    spec = {"run_name": name, "repo_data": {"repo_type": "virtual"}, "repo_id": "none", "configuration": configuration}
    client.runs.apply(spec)


def multiply(path: Path, count: int) -> None:
    """As many finished runs as `count`: rows of the one that really ran, with other ids and names."""
    with sqlite3.connect(path, timeout=30) as database:
        database.row_factory = sqlite3.Row
        run, job = (
            dict(database.execute(f"SELECT * FROM {t} WHERE due_at IS NULL").fetchone()) for t in ("run", "job")
        )
        for number in range(count - 1):
            run_id = str(uuid4())
            earlier = {"submitted_at": run["submitted_at"] - number - 1}
            _insert(database, "run", run | earlier | {"id": run_id, "name": f"run-{number}"})
            _insert(database, "job", job | earlier | {"id": str(uuid4()), "run_id": run_id})
    database.close()


def _insert(database: sqlite3.Connection, table: str, row: dict) -> None:
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))


def measure(server: OwnServer, load: Load, seconds: float) -> None:
    body = b"" if load.body is None else json.dumps(load.body).encode()
    before = server.cpu_s()
    if shutil.which("wrk"):
        rate, ms = with_wrk(server.url + load.path, body, load.connections, seconds)
    else:
        rate, ms = asyncio.run(with_our_own(server.url, load.path, body, load.connections, seconds))
    where = f"{load.connections} connection{'s' if load.connections > 1 else ''}"
    cpu_ms = 1000 * (server.cpu_s() - before) / (rate * seconds)
    print(
        f"{load.name:28} {rate:8.0f} requests/s at {where}, {ms:.1f} ms each, "
        f"{cpu_ms:.2f} ms of the server's processor time   (goal {load.goal})",
        flush=True,
    )


def with_wrk(url: str, body: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and the mean time of one in ms."""
    script = (
        f'wrk.method = "POST"\nwrk.body = {json.dumps(body.decode())}\n'
        f'wrk.headers["Authorization"] = "Bearer {TOKEN}"\nwrk.headers["Content-Type"] = "application/json"\n'
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", file.name, url]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    if "Non-2xx" in out:
        raise SystemExit(out)
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])
    return rate, 1000 * connections / rate


async def with_our_own(url: str, path: str, body: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """As `with_wrk`."""
    host, _, port = url.rpartition("//")[2].rpartition(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.perf_counter()

    async def one() -> int:
        reader, writer = await asyncio.open_connection(host, int(port), limit=8 * 1024 * 1024)
        done = 0
        while time.perf_counter() - began < seconds:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer[:20]:
                raise SystemExit(answer.decode())
            await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", answer)[0]))
            done += 1
        writer.close()
        return done

    total = sum(await asyncio.gather(*(one() for _ in range(connections))))
    rate = total / (time.perf_counter() - began)
    return rate, 1000 * connections / rate


def revoked_after(url: str) -> float:
    """Seconds from the answer that revokes a token to the first refusal."""
    _, made = post(url, "/api/users/create", TOKEN, {"username": "bench", "global_role": "user"})
    own = made["x_token"]
    if post(url, "/api/users/get_my_user", own)[0] != 200:
        raise SystemExit("a new token is refused")
    post(url, "/api/users/refresh_token", TOKEN, {"username": "bench"})
    began = time.perf_counter()
    while post(url, "/api/users/get_my_user", own)[0] == 200:
        pass
    return time.perf_counter() - began


def post(url: str, path: str, token: str, body: dict | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, json.dumps(body or {}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        return e.code, None


if __name__ == "__main__":
    main()
