"""The command line as a real process: with pipes, or on a terminal of its own that can press Ctrl-C."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DEADLINE_S = 90.0
_SOURCES = Path(__file__).parents[2] / "src"
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Cli:
    """Runs `dstack` with a home directory and a working directory of its own."""

    def __init__(self, home: Path, env: Mapping[str, str] | None = None):
        self.home = home
        self.cwd = home / "cwd"
        self.cwd.mkdir(parents=True, exist_ok=True)
        self.env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_SOURCES),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            **(env or {}),
        }

    def write(self, name: str, text: str) -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(
        self,
        *arguments: str,
        stdin: str | None = "",
        env: Mapping[str, str] | None = None,
        stdout: IO[str] | None = None,
    ) -> Result:
        """The command to its end; stdin is empty unless said. `stdout`: where its data goes, instead of the result."""
        done = subprocess.run(
            self._argv(arguments),
            input=stdin,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.cwd,
            env=self.env | dict(env or {}),
            timeout=DEADLINE_S,
        )
        return Result(done.returncode, done.stdout or "", done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command with pipes; the caller ends it."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._argv(arguments), stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=self.cwd, env=self.env
        )

    def on_terminal(self, *arguments: str) -> Terminal:
        """The command on a terminal of 100 columns."""
        return Terminal(self._argv(arguments), self.cwd, self.env)

    @staticmethod
    def _argv(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "dstack.cli.main", *arguments]


class Terminal:
    """A process on a pseudo terminal: what it shows, what is typed, and its exit code."""

    def __init__(self, argv: list[str], cwd: Path, env: Mapping[str, str]):
        self._master, slave = os.openpty()
        os.set_inheritable(slave, True)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**env, "COLUMNS": "100"},
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""
        self._read_to = 0

    def expect(self, text: str) -> str:
        """Wait until `text` is shown after what was expected before; returns all that is shown so far."""
        deadline = time.monotonic() + DEADLINE_S
        while (at := self.shown.find(text, self._read_to)) < 0:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} was not shown; on the screen:\n{self.shown}")
        self._read_to = at + len(text)
        return self.shown

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(deadline):
            pass
        code = self._process.wait(timeout=DEADLINE_S)
        os.close(self._master)
        return code

    def close(self) -> None:
        """For a test that failed half-way."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            os.close(self._master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False  # the other side is closed
        self.shown += _ESCAPES.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n")
        return bool(data)
