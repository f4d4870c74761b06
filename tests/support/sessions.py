"""People and their OpenSSH clients at the doors of an agent's tasks, and images with and without tools in them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any, Protocol

from dstack.agentapi.client import AgentClient, unix_connect
from dstack.agentapi.wire import StopRequest, TaskReport
from support.docker_engine import BUSYBOX_IMAGE, _request
from support.live_agent import LiveAgent
from support.ports import free_port

PATIENCE_S = 60.0
TOOLS_IMAGE = "dstack-test-tools:latest"
TOOLS = (
    "bash",
    "git",
    "git-upload-pack",
    "git-receive-pack",
    "rsync",
    "scp",
    "ssh-add",
    "md5sum",
    "readlink",
    "setsid",
)
TOOLS += ("nohup", "stty", "tty", "ps")


class Person:
    """Somebody with a key pair of their own."""

    def __init__(self, folder: Path, name: str):
        self.key = folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.key], check=True)
        self.public = self.key.with_suffix(".pub").read_text().strip()


class Door:
    """One task, and the configuration of ssh that leads to it under the name `run`."""

    def __init__(self, agent: SessionAgent, task_id: str, person: Person, *more: str):
        self.agent = agent
        self.task_id = task_id
        report = agent.until(task_id, lambda r: "10022" in r.ports or bool(r.session_message))
        assert "10022" in report.ports, report.session_message
        self.report = report
        self.config = agent.folder / f"{task_id}-{person.key.name}.config"
        known = agent.folder / f"{task_id}.known"
        known.write_text(f"run {report.session_host_key}\n")
        lines = ["Host run", "HostName 127.0.0.1", f"Port {report.ports['10022']}", f"User {report.session_user}"]
        lines += [f"IdentityFile {person.key}", "IdentitiesOnly yes", "HostKeyAlias run", "BatchMode yes"]
        lines += [f"UserKnownHostsFile {known}", "StrictHostKeyChecking yes", "LogLevel ERROR", *more]
        self.config.write_text("\n".join(lines) + "\n")
        self._shared = agent.folder / task_id[:8]

    def argv(self, *arguments: str) -> list[str]:
        return ["ssh", "-F", str(self.config), *arguments]

    def ssh(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """`ssh ARGUMENTS` with its output and exit code."""
        return run(self.argv(*arguments), **options)

    def says(self, command: str) -> str:
        """What a command prints in the session."""
        done = self.look(command)
        assert done.returncode == 0, done
        return done.stdout.decode().strip()

    def look(self, command: str) -> subprocess.CompletedProcess[bytes]:
        """A command over a connection that is kept open, as `ControlMaster` does for people."""
        if not self._shared.exists():
            master = ["-f", "-N", "-M", "-o", f"ControlPath={self._shared}"]
            subprocess.run(
                self.argv(*master, "run"), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE_S
            )
        return run(self.argv("-o", f"ControlPath={self._shared}", "run", command))

    def close(self) -> None:
        run(["ssh", "-F", str(self.config), "-o", f"ControlPath={self._shared}", "-O", "exit", "run"])

    @contextlib.contextmanager
    def going(self, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A client that goes on until the block ends."""
        streams: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
            **options,
        }
        client: Any = subprocess.Popen(self.argv(*arguments), **streams)
        try:
            yield client
        finally:
            client.kill()
            client.wait()
            for stream in (client.stdin, client.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


class Entrance(Protocol):
    def argv(self, *arguments: str) -> list[str]:
        """The client's command line, in which the job is called `run`."""
        ...


class Terminal:
    """A client with a terminal, as a person sees it."""

    def __init__(self, door: Entrance, *arguments: str, rows: int = 24, columns: int = 80):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execvp("ssh", door.argv("-tt", "run", *arguments))
        self.resize(rows, columns)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self.master, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str) -> re.Match[bytes]:
        """Wait until the screen has shown `pattern`; what came before it is forgotten."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            match = re.search(pattern.encode(), self.seen)
            if match:
                self.seen = self.seen[match.end() :]
                return match
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 1.0)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    assert re.search(pattern.encode(), self.seen), self.seen

    def exit_code(self) -> int:
        """Wait for the client's end, reading what it still prints."""
        deadline = time.monotonic() + PATIENCE_S
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 65536)
        os.close(self.master)
        return os.waitstatus_to_exitcode(ended[1])

    def hang_up(self) -> None:
        os.kill(self.pid, 9)
        self.exit_code()


class SessionAgent:
    """A live agent that tests share; each call has a loop of its own."""

    def __init__(
        self,
        folder: Path,
        zipapp: Path,
        runtime: str,
        docker_host: str = "",
        *options: str,
        prefix: tuple[str, ...] = (),
        python: str = "",
    ):
        """`prefix` is a command that starts the agent's, e.g. in another view of the machine or as somebody else."""
        self.folder = folder
        self.live = LiveAgent(zipapp, folder / "state", runtime, docker_host, python)
        self.live.state.mkdir()
        plain = self.live.argv
        self.log_port = free_port()  # for logs on the machine's own loopback, which has other agents too
        more = (*options, "--log-port", str(self.log_port))
        self.live.argv = lambda: [*prefix, *plain(), *more]  # type: ignore[method-assign]
        self.owner = Person(folder, "owner")
        self.ask(lambda _: self.live.start())

    def ask(self, question: Callable[[AgentClient], Any]) -> Any:
        async def asked() -> Any:
            self.live.client = AgentClient(unix_connect(self.live.socket))
            try:
                return await question(self.live.client)
            finally:
                await self.live.client.aclose()

        return asyncio.run(asked())

    def end(self, task_id: str) -> None:
        """End and forget a task: each has a network, of which an engine has few."""

        async def ended(client: AgentClient) -> None:
            await client.stop(task_id, StopRequest(grace_s=0))
            await self.live.whole_log(task_id)
            await client.delete(task_id, 0, force=True)

        self.ask(ended)

    def task(self, script: str = "sleep 100000", **fields: Any) -> str:
        """Start a task whose owner may enter; its ID."""
        spec = self.live.spec(script, **{"network": "bridge", "authorized_keys": [self.owner.public], **fields})
        self.ask(lambda client: client.put_task(spec))
        return spec.id

    def door(self, task_id: str, person: Person | None = None, *more: str) -> Door:
        return Door(self, task_id, person or self.owner, *more)

    def report(self, task_id: str) -> TaskReport:
        return self.ask(lambda _: self.live.report(task_id))

    def until(self, task_id: str, holds: Callable[[TaskReport], bool]) -> TaskReport:
        deadline = time.monotonic() + PATIENCE_S
        while not holds(report := self.report(task_id)):
            assert time.monotonic() < deadline, report
            time.sleep(0.05)
        return report

    def close(self) -> None:
        for path in self.folder.glob("*.config"):
            shared = self.folder / path.name[:8]
            run(["ssh", "-F", str(path), "-o", f"ControlPath={shared}", "-O", "exit", "run"])
        if self.live.process is not None and self.live.process.poll() is not None:
            self.ask(lambda _: self.live.start())
        asyncio.run(self._clean_up())

    async def _clean_up(self) -> None:
        self.live.client = AgentClient(unix_connect(self.live.socket))
        await self.live.clean_up()


def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(argv, capture_output=True, timeout=PATIENCE_S, check=False, **options)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def mark(number: int) -> str:
    """A number by which a test knows its processes among those of the machine."""
    return f"{number}{os.getpid():07d}"


def running(command: str) -> list[int]:
    """Processes of the machine, those in containers included, with this command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                line = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if line == command:
                    found.append(int(name))
    return found


def until_running(command: str, count: int) -> None:
    until(lambda: len(running(command)) == count, f"{count} times `{command}`")


def answers(port: int, request: bytes = b"GET / HTTP/1.0\r\n\r\n") -> bytes:
    """What answers at a port of this machine; b"" while nothing does."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.settimeout(10)
            s.sendall(request)
            found = b""
            while more := s.recv(65536):
                found += more
            return found
    except OSError:
        return b""


def import_tools(url: str) -> None:
    """An image with a shell and the tools that people copy with, made from this machine's own."""
    files: dict[str, Path] = {"bin/busybox": Path("/bin/busybox").resolve()}
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is not None:
            files[f"usr/bin/{tool}"] = Path(found).resolve()
            for library in _libraries(found):
                files[library.lstrip("/")] = Path(library).resolve()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "tmp", "root", "etc", "proc", "home", "home/worker"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            entry.uid = entry.gid = 1234 if folder.endswith("worker") else 0
            tar.addfile(entry)
        for name, path in files.items():
            tar.add(path, name)
        applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in {*applets, "bash"} - {"busybox"}:
            entry = tarfile.TarInfo("bin/" + name)
            entry.type = tarfile.SYMTYPE
            entry.linkname = f"/usr/bin/{name}" if f"usr/bin/{name}" in files else "busybox"
            tar.addfile(entry)
        accounts = b"root:x:0:0:root:/root:/bin/bash\nworker:x:1234:1234::/home/worker:/bin/bash\n"
        for name, data in (("etc/passwd", accounts), ("etc/group", b"root:x:0:\nteam:x:77:worker\nworker:x:1234:\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    name, tag = TOOLS_IMAGE.split(":")
    path = f"/images/create?fromSrc=-&repo={name}&tag={tag}&changes=ENV%20PATH%3D/usr/bin:/bin"
    status, body = _request(url, "POST", path, out.getvalue())
    if status != 200 or b'"error"' in body:
        raise RuntimeError(f"the image with tools was not imported: {body[:500]!r}")


def _libraries(program: str) -> list[str]:
    """What the program's loader loads, and the loader."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [word for line in told.splitlines() for word in line.split() if word.startswith("/")]


__all__ = ["BUSYBOX_IMAGE", "TOOLS_IMAGE", "Door", "Person", "SessionAgent", "Terminal", "answers"]
__all__ += ["import_tools", "mark", "run", "running", "until", "until_running"]
