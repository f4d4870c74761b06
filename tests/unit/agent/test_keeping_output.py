"""What the agent makes of a keeper that is not there any more."""

from __future__ import annotations

import asyncio

import pytest

from dstack.agent import processes
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


async def test_a_keeper_that_went_with_the_whole_machine_is_no_news_however_late_the_engine_tells_the_end(tmp_path):
    keeping = Keeping(printing_to_a_terminal(tmp_path, "the boot before"), 0, ended_too_s=0.0)
    copying = asyncio.ensure_future(keeping.copy())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not copying.done()
    keeping.no_more()
    await asyncio.wait_for(copying, 60)
