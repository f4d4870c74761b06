"""Accelerators from detection to release. The tools are simulated (no accelerator is at hand), all else is real."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dstack.agentapi.wire import FAILED, FAILURE, GPUS_TAKEN, HEALTHY, RUNNING, WARNING, StopRequest
from support.live_agent import LiveAgent
from support.simulated_tools import GPU_0, GPU_1, WELL, environment, nvidia_smi, tt_smi

WAIT = 'echo "got [$CUDA_VISIBLE_DEVICES]"; exec sleep 600'


@pytest.fixture
async def gpu_agent(tmp_path: Path, zipapp: Path) -> AsyncIterator[LiveAgent]:
    """Processes on a machine with two GPUs, looked after often."""
    live = LiveAgent(zipapp, tmp_path / "state", "process")
    live.env = environment(nvidia_smi(tmp_path / "tools"))
    live.options = ["--health-every", "0.1"]
    await live.start()
    try:
        yield live
    finally:
        await live.clean_up()


@pytest.fixture
def board_nodes() -> Iterator[None]:
    """/dev/tenstorrent/0 and 1: real device nodes, of the null device."""
    folder = Path("/dev/tenstorrent")
    if os.geteuid() != 0 or folder.exists():
        pytest.skip("device nodes can be made by root only, and not where real ones are")
    folder.mkdir()
    try:
        for n in range(2):
            os.mknod(folder / str(n), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        yield
    finally:
        for n in range(2):
            (folder / str(n)).unlink(missing_ok=True)
        folder.rmdir()


async def wait_for_health(agent: LiveAgent, status: str) -> str:
    """The words with which the events tell that status."""
    run, seq = "", 0
    for _ in range(60):
        page = await agent.client.events(run, seq, 5)
        run, seq = page.run, page.seq
        if page.health is not None and page.health.status == status:
            return page.health.message
    raise AssertionError(f"never told {status}: {agent.errors()}")


async def test_the_host_tells_its_gpus_by_the_names_that_people_use(gpu_agent):
    facts = await gpu_agent.client.host()
    assert [(g.vendor, g.name, g.index, g.driver) for g in facts.gpus] == [
        ("nvidia", "H100", 0, "550.90.07"),
        ("nvidia", "H100", 1, "550.90.07"),
    ]
    assert (facts.health.status, facts.findings) == (HEALTHY, [])


async def test_tasks_get_different_gpus_one_too_many_is_refused_and_the_end_of_one_frees_its_gpu(gpu_agent):
    first, second = gpu_agent.spec(WAIT, gpus=1), gpu_agent.spec(WAIT, gpus=1)
    for spec, uuid in ((first, GPU_0), (second, GPU_1)):
        await gpu_agent.client.put_task(spec)
        await gpu_agent.log_holds(spec.id, f"got [{uuid}]".encode())
    assert (await gpu_agent.report(second.id)).gpus == [GPU_1]
    refused, _ = await gpu_agent.run("true", gpus=1)
    assert (refused.state, refused.reason) == (FAILED, GPUS_TAKEN)
    assert refused.message == "1 accelerator is needed, 0 of 2 free (2 are leased to other tasks)"
    await gpu_agent.client.stop(first.id, StopRequest(grace_s=0))
    await gpu_agent.finish(first.id)
    report, log = await gpu_agent.run('echo "$CUDA_VISIBLE_DEVICES"', gpus=1)
    assert (report.gpus, log) == ([GPU_0], f"{GPU_0}\n".encode())


async def test_a_task_without_a_lease_is_shown_no_gpu(gpu_agent):
    _, log = await gpu_agent.run('echo "[${CUDA_VISIBLE_DEVICES-unset}]"')
    assert log == b"[]\n"


async def test_a_lease_outlives_the_agent(gpu_agent):
    spec = gpu_agent.spec(WAIT, gpus=1)
    await gpu_agent.client.put_task(spec)
    await gpu_agent.log_holds(spec.id, b"got")
    gpu_agent.kill()
    await gpu_agent.start()
    assert (await gpu_agent.report(spec.id)).gpus == [GPU_0]
    report, _ = await gpu_agent.run("true", gpus=1)
    assert report.gpus == [GPU_1]


async def test_metrics_are_of_the_leased_gpus_alone(gpu_agent):
    spec = gpu_agent.spec(WAIT, gpus=1)
    other = gpu_agent.spec(WAIT, gpus=1)
    for one in (spec, other):
        await gpu_agent.client.put_task(one)
        await gpu_agent.state_is(one.id, RUNNING)
    metrics = await gpu_agent.client.metrics(other.id)
    uuid = (await gpu_agent.report(other.id)).gpus[0]
    load = {GPU_0: (1024, 37), GPU_1: (2048, 93)}[uuid]
    assert [(g.uuid, g.memory_bytes // 1024**2, g.util_percent) for g in metrics.gpus] == [(uuid, *load)]


async def test_changes_of_health_are_pushed_and_a_failed_gpu_is_leased_no_more(gpu_agent, tmp_path):
    health = tmp_path / "tools" / "health"
    health.write_text(WELL.replace("34, 0, No", "34, 2, No"))
    assert await wait_for_health(gpu_agent, WARNING) == (
        "GPU 0: 2 uncorrected memory errors since the driver was loaded"
    )
    health.write_text(WELL.splitlines()[1] + "\n")
    assert await wait_for_health(gpu_agent, FAILURE) == "GPU 0: it is not there any more"
    report, _ = await gpu_agent.run("true", gpus=1)
    assert report.gpus == [GPU_1]
    assert (await gpu_agent.client.host()).health.status == FAILURE
    health.write_text(WELL)
    await wait_for_health(gpu_agent, HEALTHY)


async def test_a_tool_that_fails_is_a_finding_and_the_host_has_no_gpus(tmp_path, zipapp):
    folder = nvidia_smi(tmp_path / "tools")
    words = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    (folder / "nvidia-smi").write_text(f'#!/bin/sh\necho "{words}"\nexit 9\n')
    live = LiveAgent(zipapp, tmp_path / "state", "process")
    live.env = environment(folder)
    await live.start()
    try:
        facts = await live.client.host()
        assert (facts.gpus, facts.findings) == ([], [f"nvidia-smi fails: {words}"])
    finally:
        await live.clean_up()


@pytest.mark.docker
async def test_containers_on_one_host_see_their_own_device_nodes_only(tmp_path, zipapp, docker_engine, board_nodes):
    live = LiveAgent(zipapp, tmp_path / "state", "docker", docker_engine)
    live.env = environment(tt_smi(tmp_path / "tools", 2))
    await live.start()
    try:
        look = "echo boards: $(ls /dev/tenstorrent 2>/dev/null); exec sleep 600"
        one, two, none = (live.spec(look, gpus=count, network="bridge") for count in (1, 1, 0))
        for spec, seen in ((one, b"boards: 0"), (two, b"boards: 1"), (none, b"boards:\n")):
            await live.client.put_task(spec)
            await live.log_holds(spec.id, seen)
        report, _ = await live.run("true", gpus=1)
        assert report.reason == GPUS_TAKEN
    finally:
        await live.clean_up()


@pytest.mark.docker
async def test_containers_on_one_host_see_neither_processes_nor_files_of_one_another(docker_agent):
    secret = docker_agent.spec("echo hidden > /tmp/secret; echo ready; exec sleep 4321", network="bridge")
    await docker_agent.client.put_task(secret)
    await docker_agent.log_holds(secret.id, b"ready")
    look = "ls /tmp; cat /proc/[0-9]*/cmdline | grep -c 'sleep.43[2]1'; echo looked"
    _, log = await docker_agent.run(look, network="bridge")
    assert log == b"0\nlooked\n"
