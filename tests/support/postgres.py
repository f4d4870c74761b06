"""A PostgreSQL for tests: the one that DSTACK_TEST_POSTGRES_URL names, else our own from the system's programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

START_DEADLINE_S = 90


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, the newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: -int(p.parent.parent.name))
    if found:
        return found[0].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The base URL (no database) of a server that trusts us, started for the block unless one is given."""
    given = os.environ.get("DSTACK_TEST_POSTGRES_URL")
    if given:
        yield given.rstrip("/")
        return
    with tempfile.TemporaryDirectory(prefix="dstack-pg-") as name:
        own = Own(Path(name))
        own.start()
        try:
            yield own.url
        finally:
            own.stop()


class Own:
    """A server in a folder of its own; `stop` and `start` again keep what it holds."""

    def __init__(self, base: Path):
        found = programs()
        if found is None:
            missing("PostgreSQL's server programs are not installed")
        assert found is not None
        self.url = f"postgresql+asyncpg://postgres@/?host={base}"
        self._programs = found
        self.base = base
        _give_to_postgres(base)
        _run(found / "initdb", "-D", str(base / "data"), "-A", "trust", "-U", "postgres", "--no-sync")

    def start(self) -> None:
        # Unix socket only: no port to collide with, nobody else can come in.
        options = f"-k {self.base} -c listen_addresses='' -c fsync=off -c max_connections=200"
        control = (self._programs / "pg_ctl", "-D", str(self.base / "data"), "-w")
        _run(*control, "-o", options, "-l", str(self.base / "log"), "start")

    def stop(self) -> None:
        _run(self._programs / "pg_ctl", "-D", str(self.base / "data"), "-m", "immediate", "-w", "stop")


def new_database(server: str) -> str:
    """The URL of an empty database on the server."""
    name = f"test_{uuid4().hex}"
    asyncio.run(_create(_with_database(server, "postgres"), name))
    return _with_database(server, name)


def missing(reason: str) -> None:
    """Skip where a person runs the tests, fail where everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


async def _create(url: str, name: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


def _with_database(server: str, name: str) -> str:
    head, _, query = server.partition("?")
    return f"{head.rstrip('/')}/{name}" + (f"?{query}" if query else "")


def _run(*command: str | Path) -> None:
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, *map(str, command)], capture_output=True, text=True, timeout=START_DEADLINE_S, check=False, cwd="/"
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def _give_to_postgres(folder: Path) -> None:
    """PostgreSQL refuses to run as root: its own account gets the folder."""
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
