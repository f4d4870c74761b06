"""Several servers of one database: real processes, what they share, and a look behind them."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from support import postgres
from support.product import Product, eventually, processes_naming

OFFERS = [{"instance_type": "small", "regions": ["here"], "price": 1.0, "memory": "32GB"}]
# Prints numbered lines until the file is there, then how many there were.
COUNTING = 'n=0; while [ ! -e {stop} ]; do n=$((n+1)); echo "line $n"; sleep 0.05; done; echo "end $n"'
PATIENCE_S = 60.0


class Servers:
    """`folder` holds a home for each server, the shared folder, and the machines of a simulated cloud."""

    def __init__(self, folder: Path, database_url: str, names: str):
        self.folder = folder
        self.database_url = database_url
        self.stop_file = folder / "stop"
        token = secrets.token_hex(20)
        env = {
            "DSTACK_DATABASE_URL": database_url,
            "DSTACK_SERVER_SHARED_DIR": str(folder / "shared"),
            "DSTACK_SERVER_ADMIN_TOKEN": token,
            "DSTACK_SERVER_ENCRYPTION_KEYS": secrets.token_hex(32),
            "DSTACK_SERVER_LOCAL_BACKEND": "false",
            "DSTACK_TOKEN": token,
        }
        self.of = {name: self._product(name, env) for name in names}

    def start(self, names: str) -> None:
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name: self.of[name].start(), names))

    def id(self, name: str) -> str:
        return (self.of[name].server_dir / "server.id").read_text().strip()

    def counting(self, name: str, through: str) -> None:
        """Submit a task that counts until `stop`."""
        product = self.of[through]
        file = product.task(name, COUNTING.format(stop=self.stop_file))
        product.cli("apply", "-f", file, "-y", "-d").ok()

    def held(self) -> dict[str, int]:
        """How many hosts each server holds, by its name."""
        names = {self.id(name): name for name in self.of if (self.of[name].server_dir / "server.id").exists()}
        rows = self.query("SELECT server_id, count(*) FROM host_link WHERE server_id IS NOT NULL GROUP BY 1")
        return {names[id_]: count for id_, count in rows}

    def log_sizes(self) -> dict[str, int]:
        """Stored bytes, by run."""
        joined = "log_offset o JOIN job j ON j.id = o.job_id JOIN run r ON r.id = j.run_id"
        return dict(self.query(f"SELECT r.name, o.size FROM {joined}"))

    def taken_over(self, hosts: int, among: str, deadline_s: float = PATIENCE_S) -> float:
        """Seconds until these servers hold all hosts. Returns when every log grows again that did before."""
        began, before = time.monotonic(), self.log_sizes()

        def all_held() -> bool:
            held = self.held()
            return sum(held.get(name, 0) for name in among) == hosts

        eventually(all_held, deadline_s, lambda: f"hosts are held by {self.held()}")
        held_after = time.monotonic() - began
        had = before | self.log_sizes()  # no log is ever shorter; one may begin only now

        def all_grow() -> bool:
            return all(size > had.get(run, 0) for run, size in self.log_sizes().items())

        eventually(all_grow, deadline_s, lambda: f"logs stand still: {had} {self.log_sizes()}")
        return held_after

    def query(self, sql: str) -> list[Any]:
        return asyncio.run(_query(self.database_url, sql))

    def close(self) -> None:
        for product in self.of.values():
            if product.running:
                os.kill(product.server_pid, signal.SIGCONT)
            product.close()
        for pid in processes_naming(str(self.folder)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _product(self, name: str, env: dict[str, str]) -> Product:
        home = self.folder / name
        server_dir = home / ".dstack" / "server"
        server_dir.mkdir(parents=True)
        product = Product(home, **env)
        product.env["DSTACK_SERVER_URL"] = product.url
        cloud = {"type": "sim", "folder": str(self.folder / "cloud"), "offers": OFFERS}
        config = {"projects": [{"name": "main", "backends": [cloud]}]}
        (server_dir / "config.yml").write_text(yaml.safe_dump(config))
        return product


def counted(log: str) -> int:
    """How far a counting task came. Fails unless every line is there, once, in order."""
    lines = log.splitlines()
    end = re.fullmatch(r"end (\d+)", lines[-1]) if lines else None
    assert end is not None, f"the log has no end: {lines[-3:]}"
    assert lines[:-1] == [f"line {n}" for n in range(1, int(end[1]) + 1)], "lines are missing, or there twice"
    return int(end[1])


@contextmanager
def several(server: str, names: str) -> Iterator[Servers]:
    """Servers on a new database of a PostgreSQL; none is started."""
    folder = Path(tempfile.mkdtemp(prefix="dstack-srv-", dir="/tmp"))
    try:
        servers = Servers(folder, postgres.new_database(server), names)
        try:
            yield servers
        finally:
            servers.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _query(url: str, sql: str) -> list[Any]:
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()
