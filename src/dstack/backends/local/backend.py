"""Instances on this machine: each is an agent process of its own, with its own folder."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dstack.agentapi.client import AgentClient, AgentUnreachable, Connect, unix_connect
from dstack.agentapi.wire import AUTO, HostFacts, StopRequest, from_json
from dstack.backends.base import (
    Created,
    CreateResult,
    InstanceOrder,
    InstanceState,
    ListedInstance,
    OutOfCapacity,
    Terminated,
    TerminateResult,
)
from dstack.backends.errors import BackendError
from dstack.backends.local import process
from dstack.model.instance import ProvisioningData
from dstack.model.offer import Availability, Gpu, Offer, Resources
from dstack.model.requirements import Requirements

REGION = "local"
INSTANCE_TYPE = "local"
MIB = 1024**2
START_DEADLINE_S = 20.0
CALL_DEADLINE_S = 10.0
# The machine is the person's own and free; this many agents on it is a mistake, not a wish.
MAX_INSTANCES = 64


class LocalBackend:
    """`bundle` answers the agent's zipapp, built when needed; `python` is the interpreter that runs it.

    Layout: `directory/<token>/` holds one instance: `agent.sock`, `agent.pid` and the agent's state. The folder is made
    before the process starts and removed after it is gone, so it is the list of what exists.
    """

    name = "local"

    def __init__(
        self,
        directory: Path,
        bundle: Callable[[], Path],
        python: str,
        runtime: str = AUTO,
        docker_host: str | None = None,
    ):
        self._directory = directory
        self._bundle = bundle
        self._python = python
        self._runtime = runtime
        self._docker_host = docker_host
        self._facts: HostFacts | None = None
        self._locks: dict[str, asyncio.Lock] = {}

    async def offers(self, requirements: Requirements | None) -> Sequence[Offer]:
        facts = await self._host_facts()
        resources = Resources(
            cpus=facts.cpus,
            memory_mib=facts.memory_bytes // MIB,
            disk_mib=facts.disk_bytes // MIB,
            cpu_arch=facts.arch,
            gpus=tuple(Gpu(vendor=g.vendor, name=g.name, memory_mib=g.memory_bytes // MIB) for g in facts.gpus),
        )
        offer = Offer(
            backend=self.name,
            region=REGION,
            instance_type=INSTANCE_TYPE,
            resources=resources,
            price=0.0,
            availability=Availability.AVAILABLE,
            runtime=facts.runtime,
            lenient_defaults=True,
        )
        return [offer]

    async def create_instance(self, order: InstanceOrder) -> CreateResult:
        folder = self._folder(order.token)
        if not folder.exists() and len(self._tokens()) >= MAX_INSTANCES:
            return OutOfCapacity(f"This machine already runs {MAX_INSTANCES} instances")
        async with self._lock(order.token):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            await self._start_agent(order.token)
        hostname = (await self._host_facts()).hostname
        return Created(ProvisioningData(backend_id=order.token, hostname=hostname, internal_ip="127.0.0.1"))

    async def describe_instance(self, token: str, data: ProvisioningData) -> InstanceState:
        folder = self._folder(token)
        if not folder.exists():
            return InstanceState("gone", message="its folder was removed")
        return InstanceState("running" if process.alive(folder) else "stopped", data)

    async def terminate_instance(self, token: str, data: ProvisioningData | None) -> TerminateResult:
        folder = self._folder(token)
        if not folder.exists():
            return Terminated()
        async with self._lock(token):
            await self._remove_tasks(token)
            await asyncio.to_thread(process.stop, folder)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if folder.exists():
            raise BackendError(f"The folder of instance {token} cannot be removed")
        return Terminated()

    async def list_instances(self) -> Sequence[ListedInstance]:
        return [ListedInstance(t, t, self._folder(t).stat().st_mtime) for t in self._tokens()]

    async def check_credentials(self) -> None:
        """There are none; the machine is the server's own."""

    async def agent_connect(self, token: str, data: ProvisioningData) -> Connect:
        async with self._lock(token):
            # Asked under the lock: a termination that is under way must not find the agent started again.
            if not self._folder(token).exists():
                raise BackendError(f"The folder of instance {token} was removed")
            await self._start_agent(token)
        return unix_connect(str(self._socket(token)))

    async def _start_agent(self, token: str) -> None:
        """Start the instance's agent unless it runs. Raises BackendError with what the agent said."""
        folder = self._folder(token)
        if process.alive(folder):
            return
        command = [*self._command("serve"), "--state", str(folder), "--socket", str(self._socket(token))]
        code, out = await self._call([*command, *self._options(), "--daemon"], START_DEADLINE_S)
        # "already served": another process of ours was quicker.
        if code and not process.alive(folder):
            raise BackendError(f"The agent did not start: {out.strip()[-500:]}")

    async def _remove_tasks(self, token: str) -> None:
        """Kill and remove what still runs there, through the agent: only it knows containers and processes."""
        await self._start_agent(token)
        client = AgentClient(unix_connect(str(self._socket(token))))
        try:
            for task in await client.tasks():
                await client.stop(task.id, StopRequest(grace_s=0.0))
                await self._ended(client, task.id)
                await client.delete(task.id, 0, force=True)
        except AgentUnreachable as e:
            raise BackendError(f"The agent of instance {token} does not answer: {e}") from e
        finally:
            await client.aclose()

    async def _ended(self, client: AgentClient, task_id: str) -> None:
        deadline = time.monotonic() + CALL_DEADLINE_S
        run, seq = "", 0
        while time.monotonic() < deadline:
            page = await client.events(run, seq, 1.0)
            run, seq = page.run, page.seq
            if all(t.state in ("exited", "failed") for t in await client.tasks() if t.id == task_id):
                return
        raise BackendError(f"Task {task_id} does not end")

    async def _host_facts(self) -> HostFacts:
        if self._facts is None:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            command = [*self._command("facts"), "--state", str(self._directory.parent / "facts"), *self._options()]
            code, out = await self._call(command, START_DEADLINE_S)
            if code:
                raise BackendError(f"This machine cannot be examined: {out.strip()[-500:]}")
            self._facts = from_json(HostFacts, json.loads(out))
        return self._facts

    def _command(self, verb: str) -> list[str]:
        return [self._python, "-IS", str(self._bundle()), verb]

    def _options(self) -> list[str]:
        docker = ["--docker-host", self._docker_host] if self._docker_host else []
        return ["--runtime", self._runtime, *docker]

    async def _call(self, command: list[str], deadline_s: float) -> tuple[int, str]:
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

    def _tokens(self) -> list[str]:
        if not self._directory.exists():
            return []
        return sorted(p.name for p in self._directory.iterdir() if p.is_dir())

    def _folder(self, token: str) -> Path:
        return self._directory / token

    def _socket(self, token: str) -> Path:
        return self._folder(token) / "agent.sock"

    def _lock(self, token: str) -> asyncio.Lock:
        return self._locks.setdefault(token, asyncio.Lock())
