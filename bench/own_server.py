"""A server for a measurement: in a folder of its own, on a free port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SOURCES = str(Path(__file__).resolve().parent.parent / "src")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
START_S = 30.0


class OwnServer:
    """`started_s` is the time from its process to its first answer; `pid` that of the process; `folder` its home."""

    def __init__(self, folder: Path, env: Mapping[str, str]):
        self.folder = folder
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dstack.server", "--port", str(port), "-n", "-l", "warning"],
            env={**os.environ, "HOME": str(folder), "PYTHONPATH": SOURCES, "DSTACK_SERVER_ADMIN_TOKEN": TOKEN, **env},
            stdout=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - began > START_S:
                raise SystemExit("the server did not start")
            time.sleep(0.005)
        self.started_s = time.perf_counter() - began

    def rss_mib(self) -> float:
        """Resident memory of the process (Linux only)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cpu_s(self) -> float:
        """Processor time that the process has used (Linux only)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(15)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthcheck", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextmanager
def own_server(**env: str) -> Iterator[OwnServer]:
    """A fresh server; delete its fleets before the end, else their agents stay."""
    folder = Path(tempfile.mkdtemp(prefix="dstack-bench-", dir="/tmp"))
    try:
        server = OwnServer(folder, {"DSTACK_SERVER_DIR": str(folder / "server"), **env})
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
