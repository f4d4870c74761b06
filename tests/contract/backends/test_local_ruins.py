"""A local instance whose agent cannot be started any more goes all the same, with everything that it ran."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from dstack.agent.bundle import build
from dstack.agentapi.client import AgentClient
from dstack.agentapi.wire import TaskSpec
from dstack.backends.agents_here import process
from dstack.backends.base import Created, InstanceOrder, Terminated
from dstack.backends.errors import BackendError
from dstack.backends.local.backend import LocalBackend

TOKEN = "77777777-7777-4777-8777-777777777777"
PATIENCE_S = 60.0


class Machine:
    """This machine, with a bundle of the agent that can be broken."""

    def __init__(self, folder: Path):
        self.bundle = build(folder / "agent")
        self.instance = folder / "local" / TOKEN
        self.pid_file = folder / "pid"
        self.backend = LocalBackend(folder / "local", lambda: self.bundle, sys.executable, "process")

    async def run_a_job(self) -> int:
        """The job's pid; the agent is killed and cannot be started any more afterwards."""
        offer = (await self.backend.offers(None))[0]
        created = await self.backend.create_instance(InstanceOrder(TOKEN, offer, "i", "p", "f"))
        assert isinstance(created, Created)
        client = AgentClient(await self.backend.agent_connect(TOKEN, created.data))
        script = f"trap '' TERM HUP; echo $$ > {self.pid_file}; while true; do sleep 600; done"
        await client.put_task(TaskSpec(id="job", name="t", runtime="process", script=script))
        async with asyncio.timeout(PATIENCE_S):
            while not (self.pid_file.exists() and self.pid_file.read_text().strip()):
                await asyncio.sleep(0.02)
        await client.aclose()
        os.kill(int((self.instance / "agent.pid").read_text()), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while process.alive(self.instance):
                await asyncio.sleep(0.02)
        self.bundle = self.instance / "no-such-bundle"
        return int(self.pid_file.read_text())


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_the_instance_is_gone_and_so_are_its_jobs(tmp_path: Path):
    machine = Machine(tmp_path)
    job = await machine.run_a_job()
    assert alive(job)
    assert await machine.backend.terminate_instance(TOKEN, None) == Terminated()
    assert not alive(job)
    assert not machine.instance.exists()


async def test_what_a_dead_holder_left_goes_too(tmp_path: Path):
    machine = Machine(tmp_path)
    job = await machine.run_a_job()
    holder = int(Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(holder, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while alive(holder):
            await asyncio.sleep(0.02)
    assert alive(job), "the end of its terminal, which came first, is nothing to it"
    assert await machine.backend.terminate_instance(TOKEN, None) == Terminated()
    assert not alive(job)


async def test_a_container_that_may_still_run_keeps_the_instance(tmp_path: Path):
    machine = Machine(tmp_path)
    await machine.run_a_job()
    state = next((machine.instance / "tasks").rglob("state.json"))
    was = state.read_text()
    state.write_text(was.replace('"runtime": "process"', '"runtime": "docker"'))
    with pytest.raises(BackendError, match="may still run"):
        await machine.backend.terminate_instance(TOKEN, None)
    assert machine.instance.exists()
    state.write_text(was)
    await machine.backend.terminate_instance(TOKEN, None)
