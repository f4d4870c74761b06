"""A PgBouncer before a PostgreSQL of the tests, in one of its modes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.postgres import missing

START_DEADLINE_S = 90
PORT = 6432  # only a part of its socket's name
INI = """[databases]
* = host={target} user=postgres
[pgbouncer]
listen_port = {port}
unix_socket_dir = {folder}
pool_mode = {mode}
auth_type = any
default_pool_size = 60
logfile = {folder}/log
pidfile = {folder}/pid
{more}
"""


@contextlib.contextmanager
def pooled(target: Path, mode: str, more: str = "") -> Iterator[str]:
    """The base URL (no database) of a pooler of `mode` in front of the server whose socket is in `target`."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        missing("PgBouncer is not installed")
    with tempfile.TemporaryDirectory(prefix="dstack-pgb-") as name:
        folder = Path(name)
        file = folder / "pgbouncer.ini"
        file.write_text(INI.format(target=target, port=PORT, folder=folder, mode=mode, more=more))
        folder.chmod(0o755)
        account: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            account = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        process = subprocess.Popen[bytes]([str(program), "-q", str(file)], cwd="/", **account)
        try:
            _until(folder / f".s.PGSQL.{PORT}", process, folder / "log")
            yield f"postgresql+asyncpg://postgres@/?host={folder}&port={PORT}"
        finally:
            process.terminate()
            process.wait(START_DEADLINE_S)


def _until(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PgBouncer did not start: {log.read_text() if log.exists() else ''}")
        time.sleep(0.05)
