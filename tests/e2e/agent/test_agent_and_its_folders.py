"""What becomes of jobs whose folder at the agent is damaged, taken away, or on a disk without room."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dstack.agent import processes
from dstack.agent.companion import Companion
from dstack.agentapi.client import hash_of
from dstack.agentapi.wire import RUNNING, CodeArchive, StopRequest


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def ended(pid: int) -> bool:
    row = processes.find(pid)
    return row is None or row.zombie


async def test_a_job_whose_state_is_damaged_does_not_run_on_where_nobody_knows_of_it(process_agent):
    spec = process_agent.spec("echo up; sleep 600")
    await process_agent.client.put_task(spec)
    await process_agent.log_holds(spec.id, b"up")
    folder = process_agent.state / "tasks" / spec.id
    job = json.loads((folder / "holder.json").read_text())
    process_agent.kill()
    (folder / "state.json").write_text("{")
    await process_agent.start()
    assert await process_agent.client.tasks() == []
    await until(lambda: ended(job["job_pid"]) and ended(job["pid"]), "the job has ended")


async def test_a_folder_that_somebody_removes_is_not_told_as_a_full_disk(process_agent):
    spec = process_agent.spec("sleep 600")
    await process_agent.client.put_task(spec)
    await process_agent.state_is(spec.id, RUNNING)  # and nothing is written there until its end
    folder = process_agent.state / "tasks" / spec.id
    job = json.loads((folder / "holder.json").read_text())
    shutil.rmtree(folder)
    try:
        await process_agent.client.stop(spec.id, StopRequest(grace_s=300))
        report, log = await process_agent.run("echo another")
        assert (report.exit_code, log) == (0, b"another\n")
    finally:
        os.kill(job["pid"], signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # it goes with its holder
            os.killpg(job["job_pid"], signal.SIGKILL)


async def test_code_of_which_an_agent_that_died_had_unpacked_a_part_is_there_as_a_whole(process_agent, tmp_path):
    out = io.BytesIO()
    count = 1500
    with tarfile.open(fileobj=out, mode="w") as tar:
        for n in range(count):
            tar.addfile(tarfile.TarInfo(f"f{n}"), io.BytesIO())
    await process_agent.client.put_blob(hash_of(out.getvalue()), out.getvalue())
    target = tmp_path / "repo"
    archives = [CodeArchive(hash_of(out.getvalue()), str(target), "skip")]
    spec = process_agent.spec(f"ls {target} | wc -l", archives=archives)
    await process_agent.client.put_task(spec)
    deadline = time.monotonic() + 60
    while not (target / "f9").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    process_agent.kill()  # or it was too late, and the test says less
    await process_agent.start()
    report, log = await process_agent.finish(spec.id)
    assert (report.message, log.strip()) == ("", b"%d" % count)


@pytest.mark.root
async def test_a_job_whose_start_took_the_last_room_on_the_disk_is_ended_and_told_as_any_other(tmp_path):
    if os.geteuid() != 0 or not processes.LINUX:
        pytest.skip("needs root to make a small disk")
    folder: Path = tmp_path / "disk"
    folder.mkdir()
    room = 2 * os.sysconf("SC_PAGE_SIZE")  # for the two records that a holder makes before it starts the job
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", folder], check=True)
    try:
        launch = {"argv": [sys.executable, "-c", "print('lost'); raise SystemExit(3)"], "env": {}, "cwd": "/"}
        companion = Companion(str(folder))
        companion.start("hold", {**launch, "cpus": [], "memory_limit_bytes": 0, "log_quota_bytes_per_hour": 0})
        await until(lambda: not companion.alive(), "the holder has ended")
        companion.reap()
        told = json.loads((folder / "exit.json").read_text())
        assert (told["exit_code"], told["log_lost"]) == (3, 5), (folder / "holder.err").read_text()
    finally:
        subprocess.run(["umount", folder], check=True)
