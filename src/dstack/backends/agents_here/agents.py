"""Starts agents on this machine, finds them again after restarts, and ends them with everything that they run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dstack.agentapi.client import AgentClient, AgentUnreachable, Connect, unix_connect
from dstack.agentapi.wire import AUTO, HostFacts, StopRequest, from_json
from dstack.backends.agents_here import process, ruins
from dstack.backends.errors import BackendError

START_DEADLINE_S = 20.0
CALL_DEADLINE_S = 10.0


@dataclass(frozen=True)
class AgentProgram:
    """How agents are started: `bundle` answers the zipapp, built when needed; `python` is what runs it."""

    bundle: Callable[[], Path]
    python: str
    runtime: str = AUTO
    docker_host: str | None = None

    async def host_facts(self, folder: Path) -> HostFacts:
        """What this machine has; `folder` is on the disk that counts. Raises BackendError."""
        _make(folder)
        code, out = await _call([*self._command("facts"), "--state", str(folder), *self._options()], START_DEADLINE_S)
        if code:
            raise BackendError(f"This machine cannot be examined: {out.strip()[-500:]}")
        return from_json(HostFacts, json.loads(out))

    async def serve(self, folder: Path, socket: Path) -> tuple[int, str]:
        """Start an agent in the background: exit code and what it said when it was ready, or could not be."""
        command = [*self._command("serve"), "--state", str(folder), "--socket", str(socket)]
        return await _call([*command, *self._options(), "--daemon"], START_DEADLINE_S)

    def _command(self, verb: str) -> list[str]:
        return [self.python, "-IS", str(self.bundle()), verb]

    def _options(self) -> list[str]:
        docker = ["--docker-host", self.docker_host] if self.docker_host else []
        return ["--runtime", self.runtime, *docker]


class AgentFolders:
    """The agents of one backend: `directory/<token>/` holds one, with `agent.sock`, `agent.pid` and the agent's state.

    The folder is made before the process starts and removed after it is gone, so it is the list of what exists.
    """

    def __init__(self, directory: Path, program: AgentProgram):
        self._directory = directory
        self._program = program
        self._locks: dict[str, asyncio.Lock] = {}

    def tokens(self) -> list[str]:
        if not self._directory.exists():
            return []
        return sorted(p.name for p in self._directory.iterdir() if p.is_dir())

    def exists(self, token: str) -> bool:
        return self.folder(token).exists()

    def alive(self, token: str) -> bool:
        return process.alive(self.folder(token))

    def folder(self, token: str) -> Path:
        return self._directory / token

    async def create(self, token: str) -> None:
        """Make the folder and start the agent; what is there already is left as it is. Raises BackendError."""
        async with self._lock(token):
            _make(self.folder(token))
            await self._start(token)

    async def connect(self, token: str) -> Connect:
        """How to reach the agent; it is started again if it does not run. Raises BackendError."""
        async with self._lock(token):
            # Asked under the lock: a termination that is under way must not find the agent started again.
            if not self.exists(token):
                raise BackendError(f"The folder of instance {token} was removed")
            await self._start(token)
        return unix_connect(str(self._socket(token)))

    async def remove(self, token: str) -> None:
        """End the agent and all that it runs, and remove its folder. Raises BackendError when something stays."""
        folder = self.folder(token)
        async with self._lock(token):
            if not folder.exists():
                return
            await self._remove_tasks(token)
            await asyncio.to_thread(process.stop, folder)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if folder.exists():
            raise BackendError(f"The folder of instance {token} cannot be removed")

    async def _start(self, token: str) -> None:
        """Start the instance's agent unless it runs. Raises BackendError with what the agent said."""
        folder = self.folder(token)
        if process.alive(folder):
            return
        code, out = await self._program.serve(folder, self._socket(token))
        # "already served": another process of ours was quicker.
        if code and not process.alive(folder):
            raise BackendError(f"The agent did not start: {out.strip()[-500:]}")

    async def _remove_tasks(self, token: str) -> None:
        """Kill and remove what still runs there, through the agent: it knows containers and processes best."""
        try:
            await self._start(token)
        except (BackendError, OSError):
            # It cannot be started any more (its state is damaged, its interpreter was removed): it must not keep the
            # instance from going.
            return await ruins.end_jobs(self.folder(token))
        client = AgentClient(unix_connect(str(self._socket(token))))
        try:
            for task in await client.tasks():
                await client.stop(task.id, StopRequest(grace_s=0.0))
                await _ended(client, task.id)
                await client.delete(task.id, 0, force=True)
        except AgentUnreachable as e:
            raise BackendError(f"The agent of instance {token} does not answer: {e}") from e
        finally:
            await client.aclose()

    def _socket(self, token: str) -> Path:
        return self.folder(token) / "agent.sock"

    def _lock(self, token: str) -> asyncio.Lock:
        return self._locks.setdefault(token, asyncio.Lock())


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


async def _ended(client: AgentClient, task_id: str) -> None:
    deadline = time.monotonic() + CALL_DEADLINE_S
    run, seq = "", 0
    while time.monotonic() < deadline:
        page = await client.events(run, seq, 1.0)
        run, seq = page.run, page.seq
        if all(t.state in ("exited", "failed") for t in await client.tasks() if t.id == task_id):
            return
    raise BackendError(f"Task {task_id} does not end")


async def _call(command: list[str], deadline_s: float) -> tuple[int, str]:
    """Run a command of ours to its end: exit code and what it printed."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C at the server's terminal is not meant for the agent
    )
    try:
        async with asyncio.timeout(deadline_s):
            out, _ = await child.communicate()
    except TimeoutError:
        os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
        raise BackendError(f"`{command[3]}` of the agent took more than {deadline_s:.0f} s") from None
    return child.returncode or 0, out.decode(errors="replace")
