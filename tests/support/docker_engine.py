"""A real Docker Engine for tests: the one that is named, the one that is there, or one of our own."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

BUSYBOX_IMAGE = "dstack-test-busybox:latest"
DEFAULT_SOCKET = "/var/run/docker.sock"
APPLETS = ("sh", "echo", "cat", "sleep", "printf", "ls", "id", "env", "pwd", "kill", "true", "false", "touch", "wc")
APPLETS += ("dd", "head", "tail", "seq", "stat", "grep", "yes", "nc", "wget", "httpd", "mkdir", "hostname")
START_S = 60.0
STOP_S = 30.0


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[str]:
    """The URL of an engine that has BUSYBOX_IMAGE. Skipped, or under CI failed, where none can be had."""
    # Several conftest files import this fixture, and each import is a fixture of its own: they share one engine.
    if not _shared:
        stack = contextlib.ExitStack()
        url = stack.enter_context(_engine())
        try:
            import_busybox(url)
        except BaseException:
            stack.close()
            raise
        _shared.append((url, stack))
    _users.append(_shared[0][0])
    try:
        yield _shared[0][0]
    finally:
        _users.pop()
        if not _users:
            _shared.pop()[1].close()


_shared: list[tuple[str, contextlib.ExitStack]] = []
_users: list[str] = []


def answers(url: str) -> bool:
    try:
        return _request(url, "GET", "/_ping")[0] == 200
    except OSError:
        return False


def import_busybox(url: str) -> None:
    """Make BUSYBOX_IMAGE from this machine's static busybox; nothing is downloaded."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add_busybox(tar)
    import_tar(url, BUSYBOX_IMAGE, out.getvalue(), "/bin")


def add_busybox(tar: tarfile.TarFile) -> None:
    """A file system with the applets of this machine's busybox and two accounts."""
    binary = Path("/bin/busybox")
    if not binary.exists():
        unavailable("there is no /bin/busybox to make an image from (Debian: busybox-static)")
    for folder in ("bin", "tmp", "root", "etc"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        tar.addfile(entry)
    tar.add(binary.resolve(), "bin/busybox")
    for name in APPLETS:
        entry = tarfile.TarInfo("bin/" + name)
        entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(entry)
    accounts = b"root:x:0:0:root:/root:/bin/sh\nworker:x:1234:1234::/home/worker:/bin/sh\n"
    entry = tarfile.TarInfo("etc/passwd")
    entry.size = len(accounts)
    tar.addfile(entry, io.BytesIO(accounts))


def import_tar(url: str, image: str, data: bytes, path: str) -> None:
    """Make an image of a file system; `path` is its PATH."""
    name, tag = image.split(":")
    target = f"/images/create?fromSrc=-&repo={name}&tag={tag}&changes=ENV%20PATH%3D{path}"
    status, body = _request(url, "POST", target, data)
    if status != 200 or b'"error"' in body:
        raise RuntimeError(f"the test image was not imported: {body[:500]!r}")


def unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have a Docker Engine: {reason}")
    pytest.skip(f"no Docker Engine: {reason}")


@contextlib.contextmanager
def _engine() -> Iterator[str]:
    named = os.environ.get("DSTACK_TEST_DOCKER_HOST")
    if named:
        if not answers(named):
            pytest.fail(f"DSTACK_TEST_DOCKER_HOST={named} does not answer")
        yield named
        return
    if answers("unix://" + DEFAULT_SOCKET):
        yield "unix://" + DEFAULT_SOCKET
        return
    if os.geteuid() != 0:
        unavailable("none answers at the usual socket, and starting one needs root")
    if shutil.which("dockerd") is None:
        unavailable("none answers at the usual socket, and there is no dockerd to start")
    with own_engine() as url:
        yield url


@contextlib.contextmanager
def own_engine() -> Iterator[str]:
    """A dockerd in a folder of its own, stopped and removed at the end.

    One at a time on a machine: each dockerd writes the packet filter's rules anew when it starts, and so would undo the
    isolation of the other's networks.
    """
    with open(Path(tempfile.gettempdir()) / "dstack-test-engine.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = Engine(Path(tempfile.mkdtemp(prefix="dstack-engine-")))
        try:
            engine.start()
            yield engine.url
        finally:
            engine.stop()
            engine.remove()


class Engine:
    """One dockerd; `stop` and `start` again keep its containers."""

    def __init__(self, folder: Path, *options: str):
        self._options = options
        self.url = f"unix://{folder}/docker.sock"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        f = self._folder
        with open(f / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    "--log-level=warn",
                    f"--host={self.url}",
                    f"--pidfile={f}/pid",
                    f"--data-root={f}/data",
                    f"--exec-root={f}/exec",
                    *self._options,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.stderr.write((f / "log").read_text(errors="replace"))
                self.stop()
                raise RuntimeError("dockerd did not start; its log is above")
            time.sleep(0.1)

    def stop(self, sig: int = signal.SIGTERM) -> None:
        if self._process is None:
            return
        self._process.send_signal(sig)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Remove its folder, and the mounts that dockerd leaves there."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([path for path in mounts if path.startswith(f"{self._folder}/")]):
            subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str):
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def call(url: str, method: str, path: str) -> Any:
    """One call of the engine's API, for looking behind the agent's back."""
    return json.loads(_request(url, method, path)[1] or b"null")


def _request(url: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = _UnixConnection(parts.path) if parts.scheme == "unix" else HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/x-tar"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
