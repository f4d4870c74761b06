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

START_DEADLINE_S = 30


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
    folder = programs()
    if folder is None:
        missing("PostgreSQL's server programs are not installed")
    assert folder is not None
    with tempfile.TemporaryDirectory(prefix="dstack-pg-") as name:
        base = Path(name)
        _give_to_postgres(base)
        _run(folder / "initdb", "-D", str(base / "data"), "-A", "trust", "-U", "postgres", "--no-sync")
        # Unix socket only: no port to collide with, nobody else can come in.
        options = f"-k {base} -c listen_addresses='' -c fsync=off -c max_connections=200"
        _run(folder / "pg_ctl", "-D", str(base / "data"), "-o", options, "-l", str(base / "log"), "-w", "start")
        try:
            yield f"postgresql+asyncpg://postgres@/?host={base}"
        finally:
            _run(folder / "pg_ctl", "-D", str(base / "data"), "-m", "immediate", "-w", "stop")


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
