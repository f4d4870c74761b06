"""What the agent makes of a keeper that is not there any more."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from dstack.agent import docker_keeper, processes
from dstack.agent.docker_keeping import Keeping
from dstack.agent.machine import Task, TaskFailed, new_task
from dstack.agentapi.wire import TaskSpec


def printing_to_a_terminal(tmp_path, boot_id: str) -> Task:
    task = new_task(TaskSpec(id="t"), str(tmp_path), boot_id)
    task.memo["terminal"] = "/dev/pts/999"
    return task


async def test_the_death_of_a_keeper_under_its_job_is_told(tmp_path):
    keeping = Keeping(printing_to_a_terminal(tmp_path, processes.boot_id()), 0, ended_too_s=0.0)
    with pytest.raises(TaskFailed, match="the job's terminal was killed"):
        await asyncio.wait_for(keeping.copy(), 60)


def test_a_keeper_that_dies_again_and_again_does_not_fill_the_disk_with_its_words(tmp_path):
    words = tmp_path / "holder.err"
    dies = "from dstack.agent import docker_keeper; docker_keeper._work(lambda _: 1 // 0, -1)"
    for before in (0, docker_keeper.TROUBLE_BYTES):
        words.write_bytes(b"." * before)
        with words.open("ab") as err:
            assert subprocess.run([sys.executable, "-c", dies], stderr=err, timeout=60).returncode == 1
        assert (b"ZeroDivisionError" in words.read_bytes()) == (before == 0)
    assert words.stat().st_size == docker_keeper.TROUBLE_BYTES


async def test_a_keeper_that_went_with_the_whole_machine_is_no_news_however_late_the_engine_tells_the_end(tmp_path):
    keeping = Keeping(printing_to_a_terminal(tmp_path, "the boot before"), 0, ended_too_s=0.0)
    copying = asyncio.ensure_future(keeping.copy())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not copying.done()
    keeping.no_more()
    await asyncio.wait_for(copying, 60)
