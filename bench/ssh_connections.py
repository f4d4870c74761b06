"""How long 200 connections to one sshd take, and what they cost to have. Needs root.

python bench/ssh_connections.py [--connections 200] [--idle 20]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from dstack.model.host import Hop, RemoteHost
from dstack.ssh.host import Credentials, PinnedKeys
from dstack.ssh.pool import Pool
from support.hosts import Hosts, hosts_up
from support.hosts_one import SUDOER

GOAL_S = 6.0


async def measure(hosts: Hosts, connections: int, idle_s: float) -> None:
    host = RemoteHost(hop=Hop(hostname=hosts["host"].address, user=SUDOER))
    credentials = Credentials(hosts.key.read_text())
    pool = Pool()
    memory, cpu, began = resident_bytes(), time.process_time(), time.perf_counter()
    await asyncio.gather(*(pool.link(f"host-{n}", host, credentials, PinnedKeys()) for n in range(connections)))
    took, cost = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{connections} connections: {took:.2f} s (goal {GOAL_S:.0f} s), {1000 * cost / connections:.1f} ms of CPU each"
    )
    print(f"memory: {(resident_bytes() - memory) / connections / 1024:.0f} KiB each")
    cpu = time.process_time()
    await asyncio.sleep(idle_s)
    print(f"idle for {idle_s:.0f} s: {100 * (time.process_time() - cpu) / idle_s:.2f} % of a core")
    await pool.aclose()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--idle", type=float, default=20.0, metavar="SECONDS")
    options = parser.parse_args()
    with hosts_up(["host"], without_docker=["host"]) as hosts:
        asyncio.run(measure(hosts, options.connections, options.idle))


if __name__ == "__main__":
    main()
