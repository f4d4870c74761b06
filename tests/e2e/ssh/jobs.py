"""Containers on a test host, run through its agent."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

from dstack.agentapi.client import AgentClient, AgentUnreachable
from dstack.agentapi.wire import ENDED, TaskReport, TaskSpec
from support.docker_engine import BUSYBOX_IMAGE

PATIENCE_S = 60.0


async def start(client: AgentClient, script: str) -> str:
    """The id of a job that runs now."""
    spec = TaskSpec(id=str(uuid.uuid4()), name="job", image=BUSYBOX_IMAGE, shell="/bin/sh", script=script)
    await client.put_task(spec)
    await until(client, spec.id, ("running", *ENDED))
    return spec.id


async def until(client: AgentClient, id: str, states: tuple[str, ...]) -> TaskReport:
    """The job's report once it is in one of `states`."""
    return await until_it(client, id, lambda report: report.state in states)


async def until_it(client: AgentClient, id: str, holds: Callable[[TaskReport], bool]) -> TaskReport:
    """The job's report once `holds` says so of it; an agent that is away meanwhile is waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            report = next(each for each in await client.tasks() if each.id == id)
            if holds(report):
                return report
        except AgentUnreachable as e:
            report = e
        assert time.monotonic() < deadline, report
        await asyncio.sleep(0.1)


async def log(client: AgentClient, id: str) -> str:
    return (await client.logs(id, 0)).data.decode().replace("\r\n", "\n")


async def printed(client: AgentClient, id: str, wanted: str) -> None:
    """Wait until the job has printed that."""
    deadline = time.monotonic() + PATIENCE_S
    while wanted not in (seen := await log(client, id)):
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.1)
