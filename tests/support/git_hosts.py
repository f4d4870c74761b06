"""Hosts of Git repositories on loopback: HTTP with git's own backend, and SSH with a real sshd."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from support.ports import free_port
from support.product import eventually

BACKEND = (
    Path(subprocess.run(["git", "--exec-path"], capture_output=True, text=True).stdout.strip()) / "git-http-backend"
)
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_NOBODY = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
_AUTHOR = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org"}
_COMMITTER = {"GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.org"}

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def git(folder: Path, *arguments: str) -> str:
    """What git printed, run as nobody in particular."""
    env = {**os.environ, **_NOBODY, **_AUTHOR, **_COMMITTER}
    done = subprocess.run(["git", "-C", str(folder), *arguments], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout.strip()


def bare_repo(place: Path, name: str = "lab.git") -> Path:
    """A bare repository with two commits on `main` and one more on `side`; its first file says which."""
    work = place / f"{name}.work"
    work.mkdir(parents=True)
    git(work, "init", "-q", "-b", "main")
    (work / "out").symlink_to("/etc/hostname")  # as many have, and none of the run's business
    for text in ("first", "second"):
        (work / "said.txt").write_text(f"{text}\n")
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", text)
    git(work, "switch", "-q", "-c", "side")
    (work / "said.txt").write_text("aside\n")
    git(work, "commit", "-q", "-a", "-m", "aside")
    git(work, "switch", "-q", "main")
    git(place, "clone", "-q", "--bare", str(work), str(place / name))
    git(place / name, "config", "uploadpack.allowAnySHA1InWant", "true")
    shutil.rmtree(work)
    return place / name


def over_http(root: Path, token: str | None = None) -> contextlib.AbstractContextManager[str]:
    """The address of a server of the repositories below `root`; with a token for those only who send it."""
    return serving(_application(root, token))


@contextlib.contextmanager
def serving(application: Application) -> Iterator[str]:
    """The address of an HTTP server that answers as the WSGI application does."""
    server = make_server("127.0.0.1", 0, application, WSGIServer, _Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@contextlib.contextmanager
def over_ssh(root: Path, folder: Path, key: Path) -> Iterator[str]:
    """The address of a real sshd that lets the owner of `key` in; made with `make_key`."""
    folder.mkdir(parents=True, exist_ok=True)
    make_key(folder / "host_key")
    allowed = folder / "authorized_keys"
    allowed.write_text(key.with_suffix(".pub").read_text())
    port = free_port()
    lines = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder / 'host_key'}", "UsePAM no"]
    lines += [f"AuthorizedKeysFile {allowed}", "StrictModes no", f"PidFile {folder / 'pid'}", "PermitRootLogin yes"]
    (folder / "config").write_text("\n".join(lines) + "\n")
    Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    process = subprocess.Popen([SSHD, "-D", "-f", str(folder / "config"), "-E", str(log)])
    try:
        eventually(lambda: log.exists() and "listening" in log.read_text(), 30.0, lambda: "sshd does not listen")
        yield f"ssh://root@127.0.0.1:{port}{root}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def make_key(path: Path) -> Path:
    """A pair of SSH keys without passphrase; the public one lies beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
    return path


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Tests have nobody who reads it."""


def _application(root: Path, token: str | None) -> Application:
    """git's CGI program behind basic authentication."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if token is not None and not _knows(environ, token):
            start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="git"')])
            return [b"who are you?"]
        env = {**os.environ, **_NOBODY, "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1"}
        env |= {name: value for name, value in environ.items() if isinstance(value, str) and name.isupper()}
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else _chunked(environ)
        done = subprocess.run([str(BACKEND)], env=env, input=body, capture_output=True, timeout=60)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if line]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        start(status, [(name, value) for name, value in headers if name != "Status"])
        return [content]

    return answer


def _chunked(environ: dict[str, Any]) -> bytes:
    """What git sends in chunks, when it is long."""
    if "chunked" not in environ.get("HTTP_TRANSFER_ENCODING", ""):
        return b""
    stream, data = environ["wsgi.input"], b""
    while size := int(stream.readline().split(b";")[0] or b"0", 16):
        data += stream.read(size)
        stream.readline()
    return data


def _knows(environ: dict[str, Any], token: str) -> bool:
    scheme, _, sent = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return scheme == "Basic" and base64.b64decode(sent).decode().partition(":")[2] == token
