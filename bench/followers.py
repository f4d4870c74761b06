"""200 people follow the log of a quiet job: what that costs, and how soon a line reaches the last of them.

python bench/followers.py [--followers 200] [--lines 20] [--postgresql]

With --postgresql two servers share a database; half of the followers ask the one that does not hold the job's host.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import secrets
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from http_api import end_all
from own_server import TOKEN, OwnServer, own_server
from submit_to_log import make_fleet, remove_fleet

from dstack.api import Client
from support import postgres

EVERY_S = 1.0
QUIET_S = 20.0
LIMIT_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--followers", type=int, default=200, help="how many connections (default 200)")
    parser.add_argument("--lines", type=int, default=20, help="how many lines are timed (default 20)")
    parser.add_argument("--postgresql", action="store_true", help="two servers on PostgreSQL instead of one on SQLite")
    options = parser.parse_args()
    with ExitStack() as stack:
        env = shared(stack) if options.postgresql else {}
        server = stack.enter_context(own_server(DSTACK_SERVER_LOCAL_RUNTIME="process", **env))
        others = [stack.enter_context(own_server(DSTACK_SERVER_LOCAL_BACKEND="false", **env))] if env else []
        client = stack.enter_context(Client(server.url, TOKEN))
        make_fleet(client)
        try:
            go = server.folder / "go"
            run = client.runs.apply(_spec(go, options.lines))
            job = run["jobs"][0]["job_submissions"][0]["id"]
            asyncio.run(measure([server, *others], job, options.followers, options.lines, go))
        finally:
            end_all(client)
            remove_fleet(client)


def shared(stack: ExitStack) -> dict[str, str]:
    """What several servers have in common, for as long as the stack lives."""
    url = postgres.new_database(stack.enter_context(postgres.running()))
    folder = stack.enter_context(TemporaryDirectory(prefix="dstack-bench-shared-"))
    keys = {"DSTACK_SERVER_ENCRYPTION_KEYS": secrets.token_hex(32)}
    return {"DSTACK_DATABASE_URL": url, "DSTACK_SERVER_SHARED_DIR": folder, **keys}


def _spec(go: Path, lines: int) -> dict[str, Any]:
    """A job that is quiet until the file is there, then prints the instant, once a second."""
    command = f"while [ ! -e {go} ]; do sleep 0.2; done; for i in $(seq {lines}); do date +%s.%N; sleep {EVERY_S}; done"
    configuration = {"type": "task", "name": "talks", "commands": ["echo up", command]}
    repo = {"repo_data": {"repo_type": "virtual"}, "repo_id": "none"}
    return {"run_name": "talks", "configuration": configuration, **repo}


async def measure(servers: list[OwnServer], job: str, followers: int, lines: int, go: Path) -> None:
    late: list[float] = []
    up = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(follow(servers[n % len(servers)].url, job, up, late)) for n in range(followers)]
    async with asyncio.timeout(LIMIT_S):
        for _ in tasks:
            await up.acquire()
    cpu, began = cpu_s(servers), time.perf_counter()
    await asyncio.sleep(QUIET_S)
    share = 100 * (cpu_s(servers) - cpu) / (time.perf_counter() - began)
    print(f"{followers} followers of a quiet job: {share:.1f} % of a core (goal 20)", flush=True)
    cpu, began = cpu_s(servers), time.perf_counter()
    await asyncio.to_thread(go.touch)
    async with asyncio.timeout(LIMIT_S + 3 * lines * EVERY_S):
        await asyncio.gather(*tasks)
    share = 100 * (cpu_s(servers) - cpu) / (time.perf_counter() - began)
    late.sort()
    p99 = late[int(0.99 * (len(late) - 1))]
    print(
        f"a line a second to all of them: {share:.1f} % of a core; a line reaches a follower after "
        f"{1000 * statistics.median(late):.0f} ms, p99 {1000 * p99:.0f} ms, the last after {1000 * late[-1]:.0f} ms "
        f"(goal 300), {len(late)} of {followers * lines} lines"
    )


def cpu_s(servers: list[OwnServer]) -> float:
    return sum(server.cpu_s() for server in servers)


async def follow(url: str, job: str, up: asyncio.Semaphore, late: list[float]) -> None:
    host, _, port = url.rpartition("//")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"job_submission_id": job, "offset": 0, "wait": True}).encode()
    head = f"POST /api/project/main/logs/follow HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        while line := await reader.readline():
            if not line.startswith(b"{"):
                continue
            message = json.loads(line)
            if message.get("end"):
                return
            now = time.time()
            for text in base64.b64decode(message.get("data", "")).decode().splitlines():
                if text == "up":
                    up.release()
                else:
                    late.append(now - float(text))
    finally:
        writer.close()


if __name__ == "__main__":
    main()
