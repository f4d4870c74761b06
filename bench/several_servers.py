"""Servers that share a PostgreSQL: what an idle one costs, and how soon the hosts of a killed one are taken over."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from own_server import own_server

from support import postgres
from support.product import eventually
from support.several import PATIENCE_S, Servers, several

IDLE_S = 30.0
SETTLE_S = 5.0
HOSTS = 6


def idle(server: str) -> float:
    """Share of a core that one server uses when nothing happens."""
    with own_server(DSTACK_DATABASE_URL=postgres.new_database(server), DSTACK_SERVER_LOCAL_BACKEND="false") as one:
        time.sleep(SETTLE_S)
        before = one.cpu_s()
        time.sleep(IDLE_S)
        return (one.cpu_s() - before) / IDLE_S


def takeover(servers: Servers) -> list[float]:
    """Seconds until the hosts of a killed server are held by the others, for each of three."""
    servers.start("abc")
    servers.of["a"].fleet(nodes=f"0..{HOSTS}")
    for n in range(HOSTS):
        servers.counting(f"count-{n}", through="a")
    eventually(lambda: sorted(servers.held().values()) == [2, 2, 2], PATIENCE_S, lambda: f"held: {servers.held()}")
    found = []
    for name in "abc":
        servers.of[name].stop(signal.SIGKILL)
        found.append(servers.taken_over(HOSTS, "abc".replace(name, "")))
        servers.of[name].start()
        eventually(lambda: sorted(servers.held().values()) == [2, 2, 2], PATIENCE_S, lambda: f"held: {servers.held()}")
    servers.stop_file.touch()
    return found


def main() -> None:
    with postgres.running() as server:
        print(f"idle server on PostgreSQL: {idle(server):.1%} of a core (goal 5%)")
        with several(server, "abc") as servers:
            found = takeover(servers)
        each = ", ".join(f"{one:.1f}" for one in found)
        print(f"hosts of a killed server held by the others after: {each} s; at most {max(found):.1f} (goal 15)")


if __name__ == "__main__":
    main()
