"""The process runtime when a job's processes cannot be ended (they hang in the kernel) or started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from dstack.agent.companion import Companion
from dstack.agent.machine import TaskFailed, new_task
from dstack.agent.process import ProcessRuntime
from dstack.agentapi.wire import TaskSpec


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
