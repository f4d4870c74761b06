"""Pulling from a registry over HTTP on this machine: its password, and an agent that dies meanwhile."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dstack.agentapi.wire import FAILED, IMAGE_PULL, PULLING, RegistryAuth
from support.docker_engine import call
from support.live_agent import PATIENCE_S, LiveAgent
from support.product import files_below
from support.registry import registry

pytestmark = pytest.mark.docker


async def test_a_private_image_is_pulled_with_progress_and_its_password_is_nowhere_on_disk(docker_agent):
    gate = threading.Event()
    async with registry(gate=gate) as address:
        name = f"{address}/team/app:1"
        spec = docker_agent.spec("echo pulled", image=name, registry_auth=RegistryAuth("ann", "s3cr3t-password"))
        await docker_agent.client.put_task(spec)
        await pulled_bytes(docker_agent, spec.id)
        gate.set()
        report, log = await docker_agent.finish(spec.id)
        assert (report.state, log) == ("exited", b"pulled\n"), report
        assert report.pull is not None and report.pull.total_final
        assert report.pull.downloaded_bytes == report.pull.total_bytes > 300_000
        assert not [path for path, data in files_below(docker_agent.state) if b"s3cr3t" in data]
        await docker_agent.client.delete(report.id, len(log))
        call(docker_agent.docker_host, "DELETE", f"/images/{name}?force=1")


async def pulled_bytes(agent: LiveAgent, task_id: str) -> int:
    """How many are there as soon as there are some."""
    run, seq = "", 0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            page = await agent.client.events(run, seq, 5)
            run, seq = page.run, page.seq
            for report in page.tasks:
                if report.id == task_id and report.pull is not None and report.pull.downloaded_bytes:
                    return report.pull.downloaded_bytes


async def test_a_wrong_password_fails_the_pull_and_is_not_shown(docker_agent):
    async with registry() as address:
        auth = RegistryAuth("ann", "wrong-password")
        report, _ = await docker_agent.run("echo never", image=f"{address}/team/app:1", registry_auth=auth)
    assert (report.state, report.reason) == (FAILED, IMAGE_PULL)
    assert f"{address}/team/app:1" in report.message and "wrong-password" not in report.message


async def test_an_agent_killed_during_a_pull_starts_the_job_once_when_the_image_is_there(docker_agent):
    gate = threading.Event()
    async with registry(gate=gate, public=True) as address:
        name = f"{address}/team/app:1"
        spec = docker_agent.spec("echo pulled; exit 6", image=name)
        await docker_agent.client.put_task(spec)
        for _ in range(3):
            await docker_agent.state_is(spec.id, PULLING)
            docker_agent.kill()
            await docker_agent.start()
        assert (await docker_agent.report(spec.id)).state == PULLING
        gate.set()
        report, log = await docker_agent.finish(spec.id)
        assert (report.state, report.exit_code, log) == ("exited", 6, b"pulled\n"), report
        await docker_agent.client.delete(spec.id, len(log))
        call(docker_agent.docker_host, "DELETE", f"/images/{name}?force=1")
