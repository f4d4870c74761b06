"""An agent that pretends answers as a real one does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dstack.agentapi.client import AgentClient, AgentRefused
from dstack.agentapi.wire import HostFacts, TaskSpec
from dstack.backends.sim.config import Pretence
from dstack.backends.sim.pretend import PretendAgent
from dstack.backends.sim.pretend_http import connect_to
from dstack.clock import WallClock

WAIT_S = 25.0


async def test_who_waits_for_the_log_of_a_task_is_told_at_once_that_an_agent_begun_anew_does_not_know_it(
    tmp_path: Path,
) -> None:
    agent = PretendAgent(tmp_path / "tasks.json", HostFacts(), Pretence(duration=3600.0), WallClock())
    client = AgentClient(connect_to(agent))
    try:
        await client.put_task(TaskSpec(id="job", name="t"))
        said = len((await client.logs("job", 0)).data)
        async with asyncio.timeout(0.8 * WAIT_S), asyncio.TaskGroup() as group:
            asked = group.create_task(_refusal(client, said))
            while not agent.waiters:
                await asyncio.sleep(0)
            agent.begin_anew(agent.facts)
        assert asked.result() == 404
    finally:
        await client.aclose()
        agent.close()


async def _refusal(client: AgentClient, offset: int) -> int:
    with pytest.raises(AgentRefused) as refused:
        await client.logs("job", offset, WAIT_S)
    return refused.value.status
