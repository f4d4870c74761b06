"""The product as a person has it: a real server process and real CLI processes in a home of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
# For a machine that does much else meanwhile.
START_S = 90.0
STOP_S = 60.0
COMMAND_S = 90.0
LEFT_S = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Ended:
    """A command that is over. `text` is both streams, for asking whether something was said at all."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def ok(self) -> Ended:
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self

    def json(self) -> Any:
        return json.loads(self.ok().out)


class Started:
    """A command that runs: its output so far, its stdin, its signals."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self.process = process
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._readers = [
            threading.Thread(target=_drain, args=(process.stdout, self._out), daemon=True),
            threading.Thread(target=_drain, args=(process.stderr, self._err), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def out(self) -> str:
        return b"".join(self._out).decode(errors="replace")

    @property
    def err(self) -> str:
        return b"".join(self._err).decode(errors="replace")

    def wait_for(self, text: str, deadline_s: float = COMMAND_S) -> None:
        """Until `text` stands in either stream. Fails when the command ends or the deadline passes before."""

        def said() -> bool:
            ended = self.process.poll() is not None
            for reader in self._readers if ended else ():
                reader.join(LEFT_S)
            if text in self.out or text in self.err:
                return True
            assert not ended, f"ended with {self.process.returncode} without saying {text!r}:\n{self.out}\n{self.err}"
            return False

        eventually(said, deadline_s, lambda: f"{text!r} was not said:\n{self.out}\n{self.err}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def answer(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ended(self, deadline_s: float = COMMAND_S) -> Ended:
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"did not end within {deadline_s} s:\n{self.out}\n{self.err}") from None
        for reader in self._readers:
            reader.join(LEFT_S)
        return Ended(code, self.out, self.err)


class Product:
    """One server and the CLI that knows it. `env` is added to the environment of both."""

    def __init__(self, folder: Path, **env: str):
        self.folder = folder
        self.port = free_port()
        self.env = clean_environment(folder, **{"DSTACK_SERVER_LOCAL_RUNTIME": "process", **env})
        self._server: Started | None = None
        self._commands: list[Started] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server_dir(self) -> Path:
        return self.folder / ".dstack" / "server"

    @property
    def server_pid(self) -> int:
        assert self._server is not None
        return self._server.process.pid

    @property
    def running(self) -> bool:
        """The server's process lives."""
        return self._server is not None and self._server.process.poll() is None

    @property
    def server_log(self) -> str:
        return (self._server.out + self._server.err) if self._server else ""

    def start(self) -> Started:
        """Start the server and wait until it has said that it runs."""
        self._server = Started(_popen(["server", "--port", str(self.port), "-y"], self.folder, self.env))
        self._server.wait_for("Ctrl-C stops the server", START_S)
        return self._server

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Stop the server; its exit code."""
        assert self._server is not None
        self._server.process.send_signal(sig)
        return self._server.ended(STOP_S).code

    def cli(
        self, *arguments: str, stdin: str = "", deadline_s: float = COMMAND_S, env: Mapping[str, str] | None = None
    ) -> Ended:
        """Run a command to its end; the end of `stdin` is the end of its input."""
        try:
            done = subprocess.run(
                _command(arguments),
                cwd=self.folder,
                env={**self.env, **(env or {})},
                input=stdin.encode(),
                capture_output=True,
                timeout=deadline_s,
            )
        except subprocess.TimeoutExpired as e:
            said = (e.stdout or b"").decode(errors="replace") + (e.stderr or b"").decode(errors="replace")
            raise AssertionError(f"dstack {arguments} did not end within {deadline_s} s:\n{said}") from None
        return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def shell(self, lines: str) -> Ended:
        """Run what a person pastes into a shell that knows `dstack`."""
        command = " ".join(shlex.quote(part) for part in _command(()))
        script = f'dstack() {{ {command} "$@"; }}\nset -e\n{lines}\n'
        done = subprocess.run(
            ["sh", "-c", script], cwd=self.folder, env=self.env, capture_output=True, timeout=COMMAND_S, text=True
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def command_line(self, *arguments: str) -> str:
        """The command as a shell takes it."""
        return shlex.join(_command(arguments))

    def begin(self, *arguments: str, env: Mapping[str, str] | None = None) -> Started:
        """Start a command that goes on beside the test."""
        started = Started(_popen(arguments, self.folder, {**self.env, **(env or {})}))
        self._commands.append(started)
        return started

    def write(self, text: str, name: str = "run.dstack.yml") -> str:
        (self.folder / name).write_text(text)
        return name

    def task(self, name: str, *commands: str, more: str = "") -> str:
        """A file with a task of these commands; `more` are further lines of it."""
        lines = "\n".join(f"  - {json.dumps(command)}" for command in commands)
        return self.write(f"type: task\nname: {name}\ncommands:\n{lines}\n{more}\n", f"{name}.dstack.yml")

    def fleet(self, name: str = "here", nodes: str = "0..3") -> None:
        file = self.write(f"type: fleet\nname: {name}\nnodes: {nodes}\n", f"fleet-{name}.dstack.yml")
        self.cli("apply", "-f", file, "-y").ok()

    def run(self, name: str) -> dict[str, Any]:
        return self.cli("run", "get", name, "--json").json()

    def wait_status(self, name: str, *statuses: str, deadline_s: float = COMMAND_S) -> dict[str, Any]:
        """The run once it has one of the statuses."""
        seen: dict[str, Any] = {}

        def reached() -> bool:
            seen.clear()
            seen.update(self.run(name))
            return seen["status"] in statuses

        eventually(reached, deadline_s, lambda: f"{name} is {seen.get('status')}, not {' or '.join(statuses)}")
        return seen

    def processes(self) -> dict[int, str]:
        """What of this product runs besides its server and commands: agents, holders, jobs."""
        ours = {started.process.pid for started in [self._server, *self._commands] if started}
        return {pid: line for pid, line in processes_naming(str(self.folder)).items() if pid not in ours}

    def close(self) -> None:
        """End everything that is left of this product, whatever the test did to it."""
        for started in [*self._commands, self._server]:
            if started is not None and started.process.poll() is None:
                started.process.kill()
                started.process.wait()
        for pid in processes_naming(str(self.folder)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@contextmanager
def product_in_temporary_folder(**env: str) -> Iterator[Product]:
    """Short paths: those of Unix sockets may not be longer than about a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="dstack-e2e-", dir="/tmp"))
    try:
        product = Product(folder, **env)
        try:
            yield product
        finally:
            product.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clean_environment(home: Path, **env: str) -> dict[str, str]:
    """The caller's environment without anything of dstack in it, at home in `home`."""
    kept = {k: v for k, v in os.environ.items() if not re.match(r"DSTACK_|DOCKER_|PYTHON|COLUMNS$|NO_COLOR$", k)}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT / "src"), **env}


def eventually(condition: Callable[[], T], deadline_s: float, otherwise: Callable[[], str]) -> T:
    """The first true value of `condition`; fails with the words of `otherwise` at the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def processes_naming(folder: str) -> dict[int, str]:
    """Living processes whose command line or environment names the folder, with their command lines; not this one."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            if folder.encode() in line + (entry / "environ").read_bytes():
                found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # another user's, or gone meanwhile
            continue
    return found


def files_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file with what is in it, of a folder in which a server works: what goes meanwhile is passed over."""
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            try:
                if path.is_file():
                    yield path, path.read_bytes()
            except FileNotFoundError:
                continue


def _command(arguments: tuple[str, ...] | list[str]) -> list[str]:
    return [sys.executable, "-m", "dstack.cli.main", *arguments]


def _popen(arguments: tuple[str, ...] | list[str], folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(arguments),
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _drain(stream: Any, into: list[bytes]) -> None:
    while piece := stream.read1(65536):
        into.append(piece)
