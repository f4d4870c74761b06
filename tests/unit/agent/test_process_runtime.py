"""The process runtime when a job's processes cannot be ended (they hang in the kernel) or started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from dstack.agent.companion import Companion
from dstack.agent.leases import Leases
from dstack.agent.machine import Task, TaskFailed, new_task
from dstack.agent.process import ProcessRuntime
from dstack.agent.store import Store
from dstack.agent.tasks import Tasks
from dstack.agentapi.wire import GpuFacts, TaskSpec


@pytest.fixture
def stuck_holder(tmp_path):
    """A process that stands for a holder: it has the FIFO `wake` open and obeys no order."""
    os.mkfifo(tmp_path / "wake")
    reading = os.open(tmp_path / "wake", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(tmp_path / "wake", os.O_WRONLY)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[writing]
    )
    os.close(writing)
    os.close(reading)
    yield holder
    holder.kill()
    holder.communicate()


async def test_a_task_whose_processes_cannot_be_ended_is_not_removed_and_does_not_hold_up_the_agent(
    tmp_path, stuck_holder
):
    runtime = ProcessRuntime(abandon_patience_s=0.1)
    task = new_task(TaskSpec(id="t"), str(tmp_path), "boot")
    runtime._holders[task.id] = Companion(str(tmp_path), stuck_holder)

    with pytest.raises(TaskFailed, match="cannot be ended"):
        await asyncio.wait_for(runtime.remove(task), 30)

    stuck_holder.kill()
    await runtime.remove(task)
    assert stuck_holder.returncode is not None


def test_what_is_to_outlive_the_agent_and_cannot_be_started_does_not_look_alive(tmp_path):
    (tmp_path / "holder.err").mkdir()  # as a full disk, it cannot be opened
    companion = Companion(str(tmp_path))
    with pytest.raises(OSError):
        companion.start("hold", {})
    assert not companion.alive()


class Gated(ProcessRuntime):
    """Each removal waits at a gate of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[asyncio.Event] = []

    async def remove(self, task: Task) -> None:
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        await super().remove(task)


async def test_a_slow_second_removal_of_a_task_spares_a_new_one_of_the_same_name(tmp_path):
    runtime = Gated()

    async def choose(_: str) -> ProcessRuntime:
        return runtime

    async def no_gpus() -> list[GpuFacts]:
        return []

    tasks = Tasks(Store(str(tmp_path)), choose, "run", Leases(no_gpus))
    spec = TaskSpec(id="t", name="t", script="exit 0", image="refused by this runtime")

    async def refused() -> None:
        tasks.put(spec)
        while not tasks.find("t").ended:
            await asyncio.sleep(0)

    await refused()
    removals = [asyncio.ensure_future(tasks.delete("t", 0, force=True)) for _ in range(2)]
    while len(runtime.gates) < 2:
        await asyncio.sleep(0)
    runtime.gates[0].set()
    await removals[0]
    await refused()
    runtime.gates[1].set()
    await removals[1]
    assert [task.id for task in tasks.all()] == ["t"] and (tmp_path / "tasks" / "t").is_dir()
    await tasks.close()
