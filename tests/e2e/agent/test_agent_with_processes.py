"""What only the process runtime has to care for: it has no container that holds everything together."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dstack.agent import processes
from dstack.agentapi.client import AgentRefused
from dstack.agentapi.wire import FAILED, RUNNING, StopRequest
from support.live_agent import LiveAgent

DAEMON = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(600)"


async def gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        row = processes.find(pid)
        if row is None or row.zombie:
            return
        assert time.monotonic() < deadline, f"{pid} still runs"
        await asyncio.sleep(0.02)


async def at_least(count: int, root: int) -> list[processes.Process]:
    """The processes below `root`, when there are so many."""
    deadline = time.monotonic() + 60
    while len(below := processes.descendants(processes.table(), root)) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return below


def holder(agent: LiveAgent, task_id: str) -> dict:
    return json.loads((agent.state / "tasks" / task_id / "holder.json").read_text())


@pytest.mark.skipif(not processes.LINUX, reason="orphans are found through Linux's subreaper")
async def test_a_daemon_that_detached_itself_ends_with_its_job(process_agent, tmp_path):
    (tmp_path / "daemon.py").write_text(DAEMON)
    spec = process_agent.spec(f"{shlex.quote(sys.executable)} {tmp_path}/daemon.py; echo up; sleep 600")
    await process_agent.client.put_task(spec)
    await process_agent.log_holds(spec.id, b"up")
    below = await at_least(3, holder(process_agent, spec.id)["pid"])
    await process_agent.client.stop(spec.id, StopRequest(grace_s=0))
    await process_agent.finish(spec.id)
    for row in below:
        await gone(row.pid)


async def test_a_holder_that_is_killed_takes_the_job_along_and_the_task_says_what_happened(process_agent):
    spec = process_agent.spec("echo up; sleep 600")
    await process_agent.client.put_task(spec)
    await process_agent.log_holds(spec.id, b"up")
    record = holder(process_agent, spec.id)
    os.kill(record["pid"], signal.SIGKILL)
    report, log = await process_agent.finish(spec.id)
    assert (report.state, report.reason) == (FAILED, "executor_error")
    assert log == b"up\n[dstack] The end of this log may be missing: the process that kept it was killed\n"
    await gone(record["job_pid"])


async def test_two_hundred_thousand_lines_at_full_speed_arrive_exactly(process_agent):
    _, log = await process_agent.run("seq 1 200000", log_quota_bytes_per_hour=0)
    assert log == "".join(f"{n}\n" for n in range(1, 200001)).encode()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no processor affinity on this system")
async def test_a_cpu_limit_binds_the_job_to_so_many_processors(process_agent):
    script = f"{shlex.quote(sys.executable)} -c 'import os; print(len(os.sched_getaffinity(0)))'"
    _, log = await process_agent.run(script, cpu_limit=1.0)
    assert log == b"1\n"


async def test_what_needs_an_engine_is_refused_by_name(process_agent):
    report, _ = await process_agent.run("true", privileged=True)
    assert report.state == FAILED and "`privileged` needs a Docker Engine" in report.message


async def test_a_working_directory_that_cannot_be_made_is_a_failed_start_that_names_it(process_agent):
    report, _ = await process_agent.run("true", working_dir="/proc/nowhere")
    assert (report.state, report.reason) == (FAILED, "start_failed")
    assert "/proc/nowhere" in report.message


async def test_a_python_version_that_nobody_has_fails_and_says_where_it_was_looked_for(process_agent):
    report, _ = await process_agent.run("true", python="3.99")
    assert (report.state, report.reason) == (FAILED, "start_failed")
    assert report.message == "Python 3.99 was not found on this machine; looked for: uv, python3.99 on PATH"


async def test_a_python_version_that_is_here_is_active_in_the_job(process_agent):
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    report, log = await process_agent.run(
        "python -c 'import sys; print(sys.version_info[:2], sys.prefix)'", python=version
    )
    assert log.decode().startswith(f"({sys.version_info[0]}, {sys.version_info[1]}) {process_agent.state}"), report


async def test_a_socket_in_a_very_deep_folder_works(tmp_path, zipapp):
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6)
    deep.mkdir(parents=True)
    live = LiveAgent(zipapp, deep / "state", "process")
    try:
        await live.start()
        assert len(str(live.socket)) > 150
        assert (await live.run("echo deep"))[1] == b"deep\n"
    finally:
        await live.clean_up()


class WithFewFiles(LiveAgent):
    def argv(self) -> list[str]:
        return ["/bin/sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh", *super().argv()]


async def test_an_agent_may_open_more_files_than_the_jobs_that_it_starts(tmp_path, zipapp):
    live = WithFewFiles(zipapp, tmp_path / "state", "process")
    try:
        await live.start()
        assert live.process is not None
        limits = Path(f"/proc/{live.process.pid}/limits").read_text()
        assert int(limits.split("Max open files")[1].split()[0]) > 256
        assert (await live.run("ulimit -Sn"))[1] == b"256\n"
    finally:
        await live.clean_up()


async def test_a_daemon_is_ready_when_its_first_process_exits(tmp_path, zipapp):
    live = LiveAgent(zipapp, tmp_path / "state", "process")
    started = await asyncio.to_thread(subprocess.run, [*live.argv(), "--daemon"], capture_output=True, timeout=60)
    assert started.returncode == 0, started.stderr
    pid = int((live.state / "agent.pid").read_text())
    try:
        assert (await live.client.health()).protocol == 1
        second = await asyncio.to_thread(subprocess.run, [*live.argv(), "--daemon"], capture_output=True, timeout=60)
        assert second.returncode == 1 and b"already serves" in second.stderr
        assert os.getsid(pid) not in (os.getsid(0), 0)
    finally:
        await live.client.aclose()
        os.kill(pid, signal.SIGTERM)
        await gone(pid)
    assert "its tasks go on" in (live.state / "agent.log").read_text()


@pytest.mark.root
async def test_a_full_disk_refuses_new_tasks_and_loses_no_state(tmp_path, zipapp):
    if os.geteuid() != 0 or not processes.LINUX:
        pytest.skip("needs root to make a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    live = LiveAgent(zipapp, disk / "state", "process")
    try:
        await live.start()
        spec = live.spec("echo up; read x < /dev/tty; sleep 600")
        await live.client.put_task(spec)
        await live.log_holds(spec.id, b"up")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as f, pytest.raises(OSError, match="No space"):
            while True:
                f.write(b"x" * 4096)
        with pytest.raises(AgentRefused) as e:
            await live.client.put_task(live.spec("echo never"))
        assert (e.value.status, e.value.code) == (507, "disk_full")
        await live.client.stop(spec.id, StopRequest(grace_s=0))
        report, log = await live.finish(spec.id)
        assert (report.state, report.exit_code, log) == (FAILED, 137, b"up\n")
        assert json.loads((live.state / "tasks" / spec.id / "state.json").read_text())
        filler.unlink()
        assert (await live.run("echo again"))[1] == b"again\n"
    finally:
        await live.clean_up()
        subprocess.run(["umount", disk], check=True)


@pytest.mark.root
async def test_an_ordinary_user_runs_tasks_as_that_user(zipapp):
    if os.geteuid() != 0 or not os.path.exists("/usr/bin/python3"):
        pytest.skip("needs root to become somebody else, and an interpreter for all")
    folder = Path("/tmp") / f"dstack-nobody-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    shutil.copy(zipapp, folder / "agent.pyz")
    live = LiveAgent(folder / "agent.pyz", folder / "state", "process", python="/usr/bin/python3")
    live.user = "nobody"
    live.state.mkdir()
    shutil.chown(live.state, "nobody")
    try:
        await live.start()
        report, log = await live.run("id -un")
        assert (log, report.user) == (b"nobody\n", "nobody")
        assert (await live.client.host()).root is False
    finally:
        await live.clean_up()
        shutil.rmtree(folder)


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
async def test_the_zipapp_runs_under_other_pythons(version, tmp_path, zipapp):
    python = _interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    live = LiveAgent(zipapp, tmp_path / "state", "process", python=python)
    try:
        await live.start()
        spec = live.spec("echo up; sleep 0.3; echo down; exit 4")
        await live.client.put_task(spec)
        await live.log_holds(spec.id, b"up")
        live.kill()
        await live.start()
        report, log = await live.finish(spec.id)
        assert (report.exit_code, log) == (4, b"up\ndown\n")
        stopped = live.spec("sleep 600")
        await live.client.put_task(stopped)
        await live.state_is(stopped.id, RUNNING)
        assert (await live.client.metrics(stopped.id)).memory_bytes > 0
    finally:
        await live.clean_up()


def _interpreter(version: str) -> str | None:
    candidates = [
        shutil.which("python" + version),
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ]
    for path in candidates:
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


async def test_a_task_whose_files_make_no_sense_is_set_aside_and_the_others_live(process_agent):
    spec = process_agent.spec("echo up; sleep 600")
    await process_agent.client.put_task(spec)
    await process_agent.log_holds(spec.id, b"up")
    process_agent.kill()
    broken = process_agent.state / "tasks" / "broken-one"
    broken.mkdir()
    (broken / "state.json").write_text('{"report": 7}')
    await process_agent.start()
    assert [task.id for task in await process_agent.client.tasks()] == [spec.id]
    assert [p.name.startswith("broken-broken-one") for p in process_agent.state.glob("broken-*")] == [True]
