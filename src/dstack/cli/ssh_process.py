"""One `ssh` in the background that holds the shared connection of a run and its forwarded ports."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from dstack.cli.forwards import Forward
from dstack.errors import DstackError

READY = b"ready"
END_S = 5.0
SAID_BYTES = 4000
# ssh does not see that the command that started it was killed: this shell does, as its input ends then.
_WATCHED = 'exec 3<&0; "$@" </dev/null & p=$!; (read _ <&3; kill $p) 2>/dev/null & wait $p; exit $?'


class SshProcess:
    """`arguments` name the configuration, `alias` the entry in it. `ssh` listens on `host`."""

    def __init__(self, arguments: Sequence[str], alias: str, forwards: Sequence[Forward], host: str):
        command = ["ssh", *arguments, "-N", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]
        command += [
            "-o",
            "ControlMaster=yes",
            "-o",
            "PermitLocalCommand=yes",
            "-o",
            f"LocalCommand=echo {READY.decode()}",
        ]
        command += ["-o", "LogLevel=ERROR"]
        for each in forwards:
            if each.listens:
                command += ["-L", f"{_address(host)}:{each.local}:localhost:{each.remote}"]
        self._ready, self._said = threading.Event(), b""
        try:
            # In a session of its own: Ctrl-C is for the person's command, which decides what becomes of this one.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHED, "sh", *command, alias],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as e:
            raise DstackError(f"ssh cannot be started: {e.strerror}", hint="install the OpenSSH client") from None
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_err)]
        for reader in self._readers:
            reader.start()

    def wait_ready(self, deadline_s: float) -> bool:
        """Whether the connection and all its forwards are there; False when it ended before, or takes too long."""
        return self._ready.wait(deadline_s) and self._process.poll() is None

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def said(self) -> str:
        """What ssh complained of; complete once it has ended."""
        lines = self._said.decode(errors="replace").replace("\r", "").strip().splitlines()
        return "\n".join(line for line in lines if line.strip())

    def close(self) -> None:
        """End it, and whatever is forwarded through it."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            if not self.wait(END_S):
                self._signal(signal.SIGKILL)
                self.wait(END_S)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._signal(signal.SIGTERM)  # what else is in its session: the watching shell, a ProxyCommand
        for reader in self._readers:
            reader.join(END_S)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # all have ended

    def _read_out(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == READY:
                self._ready.set()
        self._process.wait()
        self._ready.set()

    def _read_err(self) -> None:
        assert self._process.stderr is not None
        while piece := os.read(self._process.stderr.fileno(), 4096):
            self._said = (self._said + piece)[-SAID_BYTES:]


def is_shared(arguments: Sequence[str], alias: str, socket: Path) -> bool:
    """Whether another process holds the shared connection of the run, and it is alive."""
    if not socket.exists():
        return False
    command = ["ssh", *arguments, "-O", "check", alias]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=END_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode:
        socket.unlink(missing_ok=True)  # of one that was killed: it would keep the next from sharing its own
    return done.returncode == 0


def _address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
