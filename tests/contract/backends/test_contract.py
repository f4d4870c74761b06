"""What every backend must do, whatever provides the machines."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dstack.agentapi.client import AgentClient
from dstack.agentapi.wire import ENDED, StopRequest, TaskSpec
from dstack.backends.agents_here.process import alive
from dstack.backends.base import Backend, Created, HostsAgent, InstanceOrder, Terminated
from dstack.ids import new_id

Make = Callable[[dict[str, Any]], Backend]


async def order(backend: Backend, token: str | None = None) -> InstanceOrder:
    offer = (await backend.offers(None))[0]
    return InstanceOrder(token=token or new_id(), offer=offer, name="fleet-0", project="main", fleet="fleet")


async def create(backend: Backend, wish: InstanceOrder) -> Created:
    result = await backend.create_instance(wish)
    assert isinstance(result, Created)
    return result


async def terminate(backend: Backend, token: str, created: Created | None = None) -> None:
    async with asyncio.timeout(60):
        while not isinstance(await backend.terminate_instance(token, created.data if created else None), Terminated):
            pass


async def tokens(backend: Backend) -> set[str]:
    return {i.token for i in await backend.list_instances()}


async def test_offers_are_complete_and_cheapest_first(backend: Backend):
    offers = await backend.offers(None)
    assert offers and [o.price for o in offers] == sorted(o.price for o in offers)
    assert all(o.backend == backend.name and o.region and o.resources.cpus > 0 for o in offers)


async def test_a_created_instance_is_listed_and_runs(backend: Backend):
    wish = await order(backend)
    created = await create(backend, wish)
    assert await tokens(backend) == {wish.token}
    assert (await backend.describe_instance(wish.token, created.data)).state in ("pending", "running")


async def test_the_same_token_gives_the_same_instance(backend: Backend):
    wish = await order(backend)
    first = await create(backend, wish)
    second = await create(backend, wish)
    assert first.data.backend_id == second.data.backend_id
    assert await tokens(backend) == {wish.token}


async def test_the_same_token_asked_for_twice_at_once_gives_one_instance(backend: Backend):
    wish = await order(backend)
    first, second = await asyncio.gather(create(backend, wish), create(backend, wish))
    assert first.data.backend_id == second.data.backend_id
    assert await tokens(backend) == {wish.token}


async def test_a_terminated_instance_is_gone_by_every_account(backend: Backend):
    wish = await order(backend)
    created = await create(backend, wish)
    await terminate(backend, wish.token, created)
    assert await tokens(backend) == set()
    assert (await backend.describe_instance(wish.token, created.data)).state == "gone"


async def test_terminating_works_by_the_token_alone(backend: Backend):
    wish = await order(backend)
    await create(backend, wish)
    await terminate(backend, wish.token)
    assert await tokens(backend) == set()


async def test_terminating_what_never_was_is_terminated(backend: Backend):
    assert isinstance(await backend.terminate_instance(new_id(), None), Terminated)


async def test_terminating_twice_is_terminated_twice(backend: Backend):
    wish = await order(backend)
    created = await create(backend, wish)
    await terminate(backend, wish.token, created)
    await terminate(backend, wish.token, created)


async def test_one_instance_ends_without_the_other(backend: Backend):
    one, two = await order(backend), await order(backend)
    await create(backend, one)
    await create(backend, two)
    await terminate(backend, one.token)
    assert await tokens(backend) == {two.token}


async def test_credentials_that_work_are_accepted(backend: Backend):
    await backend.check_credentials()


async def test_instances_outlive_the_server_that_made_them(make: Make, backend: Backend, config: dict[str, Any]):
    wish = await order(backend)
    created = await create(backend, wish)
    again = make(config)
    assert await tokens(again) == {wish.token}
    assert (await create(again, wish)).data.backend_id == created.data.backend_id
    await terminate(again, wish.token, created)
    assert await tokens(again) == set()


async def test_the_agent_of_an_instance_takes_jobs_and_ends_them(backend: Backend):
    if not isinstance(backend, HostsAgent):
        return
    wish = await order(backend)
    client = AgentClient(await backend.agent_connect(wish.token, (await create(backend, wish)).data))
    task = new_id()
    assert (await client.put_task(TaskSpec(id=task, name="t", script="exec sleep 600"))).id == task
    await client.stop(task, StopRequest(grace_s=0.0))
    run, seq, states = "", 0, {task: ""}
    async with asyncio.timeout(60):
        while states[task] not in ENDED:
            page = await client.events(run, seq, 5.0)
            run, seq = page.run, page.seq
            states.update({t.id: t.state for t in page.tasks})
    chunk = await client.logs(task, 0)
    assert chunk.final
    await client.delete(task, chunk.next)
    assert await client.tasks() == []
    await client.aclose()


async def test_the_agent_of_an_instance_is_started_again_after_it_was_killed(running_backend: Backend, agents: Path):
    wish = await order(running_backend)
    created = await create(running_backend, wish)
    first = await health(running_backend, wish.token, created)
    await kill_agent(agents / wish.token)
    assert await health(running_backend, wish.token, created) != first


async def test_terminating_ends_the_tasks_that_run_there(running_backend: Backend):
    assert isinstance(running_backend, HostsAgent)
    wish = await order(running_backend)
    created = await create(running_backend, wish)
    client = AgentClient(await running_backend.agent_connect(wish.token, created.data))
    task = new_id()
    await client.put_task(TaskSpec(id=task, name="t", script="echo $$; exec sleep 600"))
    pid = int((await client.logs(task, 0, 60)).data)
    await client.aclose()
    await terminate(running_backend, wish.token, created)
    assert not running(pid)


async def health(backend: Backend, token: str, created: Created) -> str:
    assert isinstance(backend, HostsAgent)
    client = AgentClient(await backend.agent_connect(token, created.data))
    try:
        return (await client.health()).run
    finally:
        await client.aclose()


async def kill_agent(folder: Path) -> None:
    os.kill(int((folder / "agent.pid").read_text()), signal.SIGKILL)
    async with asyncio.timeout(60):
        while alive(folder):
            await asyncio.sleep(0)


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
