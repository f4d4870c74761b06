"""The Docker daemon is restarted or killed while a job prints numbered lines, with live-restore and without."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dstack.agentapi.wire import EXITED, FAILED, PULLING, StopRequest
from support.docker_engine import Engine, call, import_busybox
from support.live_agent import LiveAgent

pytestmark = [pytest.mark.docker, pytest.mark.root]
LINES = 400
BLOCK = 100
# What the engine has read and not yet written when it is killed is lost with it: it is killed while the job is quiet,
# and the job prints on while it is dead.
COUNT = (
    f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); [ $((i % {BLOCK})) -ne 0 ] || sleep 2; done; exit 5"
)
PATIENCE_S = 60.0
EXPECTED = "".join(f"line {i}\n" for i in range(LINES)).encode()


@asynccontextmanager
async def own_engine(tmp_path: Path, zipapp: Path, *options: str) -> AsyncIterator[tuple[Engine, LiveAgent]]:
    """An engine beside that of the other tests, and an agent that uses it."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and a dockerd of its own")
    folder = Path(tempfile.mkdtemp(prefix="dstack-dying-"))
    engine = Engine(folder, "--bridge=none", "--iptables=false", f"--containerd={folder}/c/sock", *options)
    live = LiveAgent(zipapp, tmp_path / "state", "docker", engine.url)
    # A service of its own, as on a usual host: it outlives dockerd.
    containerd = await asyncio.to_thread(_containerd, folder / "c")
    try:
        await asyncio.to_thread(engine.start)
        import_busybox(engine.url)
        await live.start()
        yield engine, live
        await live.clean_up()
    finally:
        if live.process is not None and live.process.poll() is None:
            live.kill()
        engine.stop()
        containerd.terminate()
        containerd.wait(PATIENCE_S)
        engine.remove()


def _containerd(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    where = [f"--address={folder}/sock", f"--root={folder}/root", f"--state={folder}/state", "--log-level=error"]
    (folder / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    with open(folder / "log", "ab") as log:
        command = ["containerd", f"--config={folder}/config.toml", *where]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "sock").exists():
        assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.02)
    return process


async def test_with_live_restore_a_job_outlives_restarts_of_the_engine_and_its_death(tmp_path: Path, zipapp: Path):
    async with own_engine(tmp_path, zipapp, "--live-restore") as (engine, live):
        spec = live.spec(COUNT)
        await live.client.put_task(spec)
        for line, number in ((99, signal.SIGTERM), (199, signal.SIGKILL), (299, signal.SIGKILL), (399, signal.SIGKILL)):
            await live.log_holds(spec.id, b"line %d\n" % line)
            first_process = _first_process(engine, spec.id)
            await asyncio.to_thread(engine.stop, number)
            if line == 399:  # the job comes to its end meanwhile
                await _gone(first_process)
            if line == 299:  # the agent goes, too
                live.kill()
                await asyncio.to_thread(engine.start)
                await live.start()
            else:
                await asyncio.to_thread(engine.start)
        report, log = await live.finish(spec.id)
        assert log == EXPECTED
        assert (report.state, report.exit_code) == (EXITED, 5)


def _first_process(engine: Engine, task_id: str) -> int:
    return call(engine.url, "GET", f"/containers/dstack-{task_id}/json")["State"]["Pid"]


async def _gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_without_live_restore_a_job_ends_with_its_engine_and_is_not_started_again(tmp_path: Path, zipapp: Path):
    async with own_engine(tmp_path, zipapp) as (engine, live):
        for number in (signal.SIGKILL, signal.SIGTERM):
            spec = live.spec(COUNT)
            await live.client.put_task(spec)
            await live.log_holds(spec.id, b"line 99\n")
            await asyncio.to_thread(engine.stop, number)
            await asyncio.to_thread(engine.start)
            report, log = await live.finish(spec.id)
            assert (report.state, report.reason, report.exit_code) == (FAILED, "engine_restarted", None)
            assert EXPECTED.startswith(log) and b"line 99\n" in log
            state = call(engine.url, "GET", f"/containers/dstack-{spec.id}/json")["State"]
            assert not state["Running"]


async def test_an_agent_killed_during_a_pull_goes_on_with_it_and_can_still_be_stopped(docker_agent: LiveAgent):
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    spec = docker_agent.spec("true", image=f"127.0.0.1:{port}/image:1", network="bridge")
    await docker_agent.client.put_task(spec)
    for _ in range(3):
        await docker_agent.state_is(spec.id, PULLING)
        docker_agent.kill()
        await docker_agent.start()
    await docker_agent.state_is(spec.id, PULLING)
    await docker_agent.client.stop(spec.id, StopRequest(grace_s=300))
    report, log = await docker_agent.finish(spec.id)
    server.close()
    assert (report.state, report.reason, log) == (FAILED, "stopped", b"")
