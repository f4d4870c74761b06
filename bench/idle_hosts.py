"""What a server that is connected to many hosts costs while nothing happens: all of it, over hosts that pretend.

python bench/idle_hosts.py [--hosts 200] [--seconds 60]

The hosts' agents live in the same process, so their share is in the figure; what SSH itself costs is not, that is the
idle figure of bench/ssh_connections.py.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from dstack.clock import WallClock
from dstack.server.app import running
from dstack.server.auth.keys import new_key_pair
from dstack.sim.hosts import PretendHosts, pretend_host
from support.http_api import TOKEN, client_of, settings_in

GOAL_PERCENT = 3.0
READY_S = 300.0


async def measure(folder: Path, count: int, seconds: float) -> None:
    pair = new_key_pair("bench")
    names = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(count)]
    hosts = PretendHosts({name: pretend_host(name, pair.private, f"{name}/16") for name in names}, WallClock())
    ssh = {"user": "u", "identity_file": "k", "ssh_key": {"public": pair.public, "private": pair.private}}
    fleet = {"type": "fleet", "name": "bench", "ssh_config": {**ssh, "hosts": names}}
    spec = {"configuration": fleet, "profile": {"name": "default"}}
    async with running(settings_in(folder), WallClock(), hosts) as server, client_of(server.parts) as http:

        async def call(path: str, body: Any) -> Any:
            url, headers = f"/api/project/main/fleets/{path}", {"Authorization": f"Bearer {TOKEN}"}
            return (await http.post(url, json=body, headers=headers, timeout=READY_S)).raise_for_status().json()

        began = time.perf_counter()
        plan = await call("get_plan", {"spec": spec})
        await call("apply", {"plan": {"spec": plan["spec"], "current_resource": None}, "force": False})
        async with asyncio.timeout(READY_S):
            while True:
                found = await call("get", {"name": "bench"})
                if [one["status"] for one in found["instances"]] == ["idle"] * count:
                    break
                await asyncio.sleep(1)
        print(f"{count} hosts idle after {time.perf_counter() - began:.1f} s")
        await asyncio.sleep(10)  # what the beginning set off is over
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        share = 100 * (time.process_time() - cpu) / (time.perf_counter() - began)
        print(f"idle for {seconds:.0f} s: {share:.2f} % of a core  (goal {GOAL_PERCENT:g} %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dstack-bench-") as folder:
        asyncio.run(measure(Path(folder) / "server", options.hosts, options.seconds))


if __name__ == "__main__":
    main()
