"""Being a well-behaved process: one agent per state folder, detached, with a log of bounded size."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import socket
import sys
from typing import Optional

LOG_BYTES = 4 * 1024 * 1024
OPEN_FILES = 65536
OPEN_FILES_OF_JOBS = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # as the agent was started, before it takes more


class AlreadyServed(Exception):
    """Another agent serves this state folder."""


def lock(state: str) -> int:
    """Take the state folder for this process. Raises AlreadyServed. The kernel drops the lock at its death."""
    fd = os.open(os.path.join(state, "agent.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise AlreadyServed("another agent (pid %s) already serves %s" % (_recorded_pid(state), state)) from None
    return fd


def allow_open_files() -> None:
    """Hundreds of tasks have a few each, more than what programs may usually open."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if before != resource.RLIM_INFINITY and before < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def write_pid(state: str) -> None:
    """Say who serves; whoever reads the file finds this agent or the one before it, never nothing."""
    path = os.path.join(state, "agent.pid")
    fresh = "%s.%d" % (path, os.getpid())
    with open(fresh, "w") as f:
        f.write("%d\n" % os.getpid())
    os.replace(fresh, path)


def bind(path: str, owner: Optional[int] = None) -> socket.socket:
    """A listening Unix socket at `path`, mode 0600, in place of one that a dead agent left; `owner`: a user's number.

    A socket's address holds about 100 bytes, home folders may be deeper: it is bound from within its folder.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    back = os.getcwd()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        os.chdir(folder)
        if os.path.lexists(name):
            os.unlink(name)
        sock.bind(name)
        if owner is not None:
            os.chown(name, owner, -1)
        sock.listen(128)
    finally:
        os.umask(mask)
        os.chdir(back)
    sock.setblocking(False)
    return sock


class Readiness:
    """The detached agent's word to the process that a person started: ready, or what went wrong."""

    def __init__(self, fd: Optional[int] = None):
        self._fd = fd

    def ready(self) -> None:
        self._say(b"ready")

    def failed(self, message: str) -> None:
        self._say(message.encode("utf-8", "replace"))

    def _say(self, word: bytes) -> None:
        if self._fd is not None:
            os.write(self._fd, word)
            os.close(self._fd)
            self._fd = None


def detach() -> Readiness:
    """Go on as a daemon in a session of its own. The first process waits for the word and exits with 0 or 1."""
    listening, speaking = os.pipe()
    if os.fork():
        os.close(speaking)
        with os.fdopen(listening, "rb") as f:
            word = f.read()
        if word != b"ready":
            sys.stderr.write((word.decode("utf-8", "replace") or "the agent died while it started") + "\n")
            sys.stderr.flush()
        os._exit(0 if word == b"ready" else 1)
    os.close(listening)
    os.setsid()
    if os.fork():
        os._exit(0)
    return Readiness(speaking)


class BoundedLog(logging.Handler):
    """Writes to `agent.log`, keeps one older file, and keeps the standard streams (crashes, warnings) pointed at it."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path
        self._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if os.fstat(2).st_size > LOG_BYTES:
                os.replace(self._path, self._path + ".1")
                self._open()
            os.write(2, (self.format(record) + "\n").encode("utf-8", "replace"))
        except OSError:
            pass  # a full disk must not stop the agent

    def _open(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)
        os.close(null)


def _recorded_pid(state: str) -> str:
    try:
        with open(os.path.join(state, "agent.pid")) as f:
            return f.read().strip()
    except OSError:
        return "unknown"
