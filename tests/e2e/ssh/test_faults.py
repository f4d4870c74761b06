"""What happens to a host that was taken in: its agent, its link, its engine, its identity."""

from __future__ import annotations

import asyncio
import time

import pytest

from dstack.agentapi.client import AgentClient, AgentUnreachable
from dstack.agentapi.wire import ENDED, HOST_REBOOTED
from dstack.ssh.errors import HostKeyChanged, HostUnreachable
from dstack.ssh.host import PinnedKeys
from e2e.ssh import jobs
from e2e.ssh.conftest import Reach
from support.hosts import Hosts

pytestmark = pytest.mark.root

PATIENCE_S = 60.0


async def answers(client: AgentClient) -> str:
    """The agent's `run`, waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return (await client.health(deadline_s=5.0)).run
        except AgentUnreachable as e:
            assert time.monotonic() < deadline, e
            await asyncio.sleep(0.1)


async def test_a_killed_agent_is_back_with_the_next_question_and_its_job_never_noticed(
    hosts: Hosts, reach: Reach
) -> None:
    host = hosts["host-a"]
    id, _ = await reach.ready(host)
    client = await reach.client(id)
    before = await answers(client)
    job = await jobs.start(client, "echo one; sleep 2; echo two")
    host.kill_agent()
    assert await answers(client) != before
    report = await jobs.until(client, job, ENDED)
    assert (report.state, report.exit_code) == ("exited", 0)
    assert await jobs.log(client, job) == "one\ntwo\n"
    await client.aclose()


async def test_many_questions_at_once_start_a_dead_agent_once(hosts: Hosts, reach: Reach) -> None:
    id, _ = await reach.ready(hosts["host-a"])
    client = await reach.client(id)
    hosts["host-a"].kill_agent()
    runs = await asyncio.gather(*(client.health(deadline_s=PATIENCE_S) for _ in range(8)))
    assert len({health.run for health in runs}) == 1
    await client.aclose()


async def test_a_broken_connection_is_made_anew_by_the_next_question(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-a"]
    id, _ = await reach.ready(host)
    client = await reach.client(id)
    before = await answers(client)
    host.run("pkill", "-KILL", "-f", "^sshd: ubuntu")
    assert await answers(client) == before
    await client.aclose()


async def test_a_host_that_is_off_is_unreachable_and_comes_back_after_its_reboot_with_another_boot_id(
    hosts: Hosts, reach: Reach
) -> None:
    host = hosts["host-c"]
    id, done = await reach.ready(host)
    client = await reach.client(id)
    job = await jobs.start(client, "echo before; sleep 600")
    await jobs.printed(client, job, "before\n")
    host.power_off()
    try:
        await reach.ssh.forget(id)  # as after keepalives that nobody answered
        with pytest.raises(HostUnreachable):
            async with asyncio.timeout(PATIENCE_S):
                await reach.ssh.agent(id, reach.at(host), reach.credentials(), done.pinned)
    finally:
        host.boot()
    await answers(client)
    assert (await client.host()).boot_id != done.facts.boot_id
    report = await jobs.until(client, job, ENDED)
    assert (report.state, report.reason, report.exit_code) == ("failed", HOST_REBOOTED, None)
    said = "[dstack] The end of this log may be missing: the machine was restarted\n"
    assert await jobs.log(client, job) == "before\n" + said
    await client.aclose()


async def test_a_dead_engine_does_not_take_the_agent_with_it(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-c"]
    id, _ = await reach.ready(host)
    client = await reach.client(id)
    before = await answers(client)
    host.kill_docker()
    try:
        assert await answers(client) == before
    finally:
        host.start_docker()
    assert await jobs.log(client, await _done(client, "echo again")) == "again\n"
    await client.aclose()


async def test_another_host_key_is_told_with_both_fingerprints_and_nothing_is_sent(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-b"]
    id, done = await reach.ready(host)
    await reach.offboard(id)
    reach.lost(id)
    host.change_host_key()
    with pytest.raises(HostKeyChanged) as told:
        await reach.ssh.agent(id, reach.at(host), reach.credentials(), done.pinned)
    assert str(told.value).count("SHA256:") == 2
    assert "remove it from the fleet and add it again" in (told.value.hint or "")


async def test_a_host_key_of_another_kind_counts_as_changed(hosts: Hosts, reach: Reach) -> None:
    other = PinnedKeys("ecdsa-sha2-nistp256 " + _ECDSA)
    with pytest.raises(HostKeyChanged):
        await reach.ssh.agent("x", reach.at(hosts["host-b"]), reach.credentials(), other)


async def test_a_full_disk_is_survived_and_jobs_run_again_when_there_is_room(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-c"]
    host.limit_disk(64 * 1024 * 1024)
    try:
        id, _ = await reach.ready(host)
        client = await reach.client(id)
        before = await answers(client)
        host.fill_disk()
        assert await answers(client) == before
        host.kill_agent()
        assert await answers(client) != before
        host.free_disk()
        assert await jobs.log(client, await _done(client, "echo room")) == "room\n"
        await client.aclose()
        await reach.offboard(id)
        reach.lost(id)
    finally:
        host.run("umount", "-l", "/var/lib/dstack")
        host.run("rm", "-rf", "/var/lib/dstack")


async def _done(client: AgentClient, script: str) -> str:
    job = await jobs.start(client, script)
    await jobs.until(client, job, ENDED)
    return job


_ECDSA = (
    "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CL"
    "rbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
)
