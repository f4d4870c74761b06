"""What a container prints comes into the log past the engine, by a process that outlives the agent."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import io
import itertools
import os
import signal
import sys
import tarfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dstack.agent.processes import table
from dstack.agentapi.wire import FAILED
from support.docker_engine import add_busybox, call, import_tar
from support.live_agent import LiveAgent

pytestmark = pytest.mark.docker

FOR_EVER = "while true; do sleep 0.05; done"
PRINTS = "/bin/busybox seq 1 1000000"  # by its path: a program of its own, that is seen to run


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def interrupt(agent: LiveAgent, task_id: str) -> None:
    """Signal the job behind the agent's back."""
    call(agent.docker_host, "POST", f"/containers/dstack-{task_id}/kill?signal=INT")


def keepers(task_id: str) -> list[int]:
    """The processes that keep the task's output, the one that watches over the other first."""
    found = []
    for row in sorted(table().values(), key=lambda row: row.pid != row.session):
        try:
            arguments = Path(f"/proc/{row.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"keep" in arguments and any(part.endswith(task_id.encode()) for part in arguments):
            found.append(row.pid)
    return found


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def runs(agent: LiveAgent, task_id: str) -> bool:
    return call(agent.docker_host, "GET", f"/containers/dstack-{task_id}/json")["State"]["Running"]


def programs(agent: LiveAgent, task_id: str) -> list[str]:
    """The command lines of what runs in the container."""
    told = call(agent.docker_host, "GET", f"/containers/dstack-{task_id}/top?ps_args=-o+pid,args")
    return [row[-1] for row in told["Processes"]]


def terminals(agent: LiveAgent) -> int:
    """How many the agent's process has the upper side of."""
    assert agent.process is not None
    folder = f"/proc/{agent.process.pid}/fd"
    count = 0
    for fd in os.listdir(folder):
        with contextlib.suppress(OSError):  # closed meanwhile
            count += os.readlink(f"{folder}/{fd}").endswith("ptmx")
    return count


def unread(fifo: Path) -> int:
    """How many bytes wait in it."""
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)
    finally:
        os.close(fd)


async def test_what_a_job_prints_while_no_agent_runs_is_in_its_log_already(docker_agent):
    spec = docker_agent.spec(f"trap 'echo meanwhile' INT; echo before; {FOR_EVER}")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"before")
    docker_agent.kill(signal.SIGKILL)
    interrupt(docker_agent, spec.id)
    log = docker_agent.state / "tasks" / spec.id / "log"
    await until(lambda: log.read_bytes() == b"before\nmeanwhile\n", "the log goes on")


async def test_the_engine_keeps_no_second_copy_of_what_the_jobs_shell_prints(docker_agent):
    spec = docker_agent.spec("echo out; echo err >&2; sleep 600")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"err")
    path = Path(call(docker_agent.docker_host, "GET", f"/containers/dstack-{spec.id}/json")["LogPath"])
    assert not path.exists() or path.read_bytes() == b""


async def test_what_goes_to_the_containers_own_terminal_is_in_the_log_too(docker_agent):
    _, log = await docker_agent.run("echo one >/dev/tty; echo two >/proc/1/fd/1")
    assert log == b"one\ntwo\n"


async def test_the_output_of_a_job_is_a_terminal_also_for_another_user(docker_agent):
    _, log = await docker_agent.run("[ -t 1 ] && [ -t 2 ] && echo yes >/dev/stdout; id -u", user="worker")
    assert log == b"yes\n1234\n"


async def test_an_image_whose_own_command_runs_without_a_shell_prints_through_the_engine(docker_agent):
    report, log = await docker_agent.run(args=["seq", "1", "3"])
    assert (report.exit_code, log) == (0, b"1\n2\n3\n")


async def test_a_job_that_prints_faster_than_it_is_read_waits_and_nothing_is_lost(docker_agent):
    script = f"trap '{PRINTS}; exit' INT; echo up; {FOR_EVER}"
    spec = docker_agent.spec(script, log_quota_bytes_per_hour=0)
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"up\n")
    _, worker = keepers(spec.id)
    os.kill(worker, signal.SIGSTOP)
    interrupt(docker_agent, spec.id)
    await until(lambda: PRINTS in programs(docker_agent, spec.id), "the job prints")
    os.kill(worker, signal.SIGCONT)
    _, log = await docker_agent.finish(spec.id)
    wanted = b"up\n" + b"".join(b"%d\n" % n for n in range(1, 1000001))
    assert hashlib.sha256(log).digest() == hashlib.sha256(wanted).digest()


async def test_the_death_of_either_process_that_keeps_the_output_costs_the_job_nothing(docker_agent):
    for which, agent_lives in itertools.product((0, 1), (True, False)):
        spec = docker_agent.spec(f"trap 'echo two; echo three >/dev/tty; exit 4' INT; echo one; {FOR_EVER}")
        await docker_agent.client.put_task(spec)
        await docker_agent.log_holds(spec.id, b"one")
        both = keepers(spec.id)
        if not agent_lives:  # else it would start others
            docker_agent.kill(signal.SIGKILL)
        os.kill(both[which], signal.SIGKILL)
        await until(lambda both=both, which=which, id=spec.id: both[which] not in keepers(id), "it is dead")
        interrupt(docker_agent, spec.id)
        if not agent_lives:
            await docker_agent.start()
        report, log = await docker_agent.finish(spec.id)
        assert (report.exit_code, sorted(log.split())) == (4, [b"one", b"three", b"two"])


async def test_the_death_of_both_processes_that_keep_the_output_costs_the_job_nothing(docker_agent):
    spec = docker_agent.spec(f"trap 'echo two; echo three >/dev/tty; exit 4' INT; echo one; {FOR_EVER}")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"one")
    before = keepers(spec.id)
    kill_all(before)
    await until(lambda: len(set(keepers(spec.id)) - set(before)) == 2, "another keeper")
    interrupt(docker_agent, spec.id)
    report, log = await docker_agent.finish(spec.id)
    assert (report.exit_code, sorted(log.split())) == (4, [b"one", b"three", b"two"])


async def test_an_agent_that_was_started_after_the_job_keeps_its_terminal_from_dying_with_both_keepers(docker_agent):
    spec = docker_agent.spec(f"trap 'echo two; exit 4' INT; echo one; {FOR_EVER}")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"one")
    docker_agent.kill()
    await docker_agent.start()
    await until(lambda: terminals(docker_agent) == 1, "it has the terminal")
    before = keepers(spec.id)
    kill_all(before)
    await until(lambda: len(set(keepers(spec.id)) - set(before)) == 2, "another keeper")
    interrupt(docker_agent, spec.id)
    report, log = await docker_agent.finish(spec.id)
    assert (report.exit_code, log) == (4, b"one\ntwo\n")
    await docker_agent.client.delete(spec.id, len(log))
    assert terminals(docker_agent) == 0


async def test_what_a_job_printed_last_is_in_its_log_also_when_both_keepers_die_before_they_took_it(docker_agent):
    spec = docker_agent.spec(f"trap 'seq 1 500; exit 4' INT; echo up; {FOR_EVER}")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"up")
    both = keepers(spec.id)
    for keeper in both:
        os.kill(keeper, signal.SIGSTOP)
    interrupt(docker_agent, spec.id)
    await until(lambda: not runs(docker_agent, spec.id), "the job ends")
    control = docker_agent.state / "tasks" / spec.id / "control"
    await until(lambda: unread(control) > 0, "the keeper is told of the end")  # it is not heard from again
    kill_all(both)
    report, log = await docker_agent.finish(spec.id)
    assert (report.exit_code, log) == (4, b"up\n" + b"".join(b"%d\n" % n for n in range(1, 501)))


@pytest.mark.parametrize("job_ends", [True, False])
async def test_a_log_that_its_keepers_and_the_agent_left_together_says_that_its_end_may_be_missing(
    docker_agent, job_ends
):
    spec = docker_agent.spec(f"trap 'echo never kept; exit 4' INT; echo up; {FOR_EVER}")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"up")
    docker_agent.kill()
    kill_all(keepers(spec.id))
    if job_ends:
        interrupt(docker_agent, spec.id)
        await until(lambda: not runs(docker_agent, spec.id), "the job ends")
    await docker_agent.start()
    report, log = await docker_agent.finish(spec.id)
    assert log == b"up\n[dstack] The end of this log may be missing: the processes that kept it were killed\n"
    if job_ends:
        assert report.exit_code is not None
    else:
        assert (report.state, report.reason) == (FAILED, "executor_error")
        assert report.message == "The process that held the job's terminal was killed"


async def test_where_the_engine_cannot_mount_the_terminal_the_death_of_the_keepers_costs_nothing(docker_agent):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add_busybox(tar)
        for name in (".dstack", ".dstack/terminal"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755  # no file can be mounted over a folder
            tar.addfile(entry)
    import_tar(docker_agent.docker_host, "dstack-test-no-terminal:latest", out.getvalue(), "/bin")
    script = f"trap 'echo two; exit 4' INT; echo one; {FOR_EVER}"
    spec = docker_agent.spec(script, image="dstack-test-no-terminal:latest")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"one")
    before = keepers(spec.id)
    kill_all(before)
    await until(lambda: len(set(keepers(spec.id)) - set(before)) == 2, "another keeper")
    interrupt(docker_agent, spec.id)
    report, log = await docker_agent.finish(spec.id)
    assert (report.exit_code, log) == (4, b"one\ntwo\n")


async def test_where_the_engine_has_the_output_the_death_of_its_keeper_costs_nothing(docker_agent):
    spec = docker_agent.spec(args=["sh", "-c", f"trap 'echo two; exit 4' INT; echo one; {FOR_EVER}"])
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"one")
    before = keepers(spec.id)
    kill_all(before)
    await until(lambda: len(set(keepers(spec.id)) - set(before)) == 2, "another keeper")
    interrupt(docker_agent, spec.id)
    report, log = await docker_agent.finish(spec.id)
    assert (report.exit_code, log) == (4, b"one\ntwo\n")


async def test_nothing_keeps_running_for_a_task_that_ended(docker_agent):
    report, _ = await docker_agent.run("echo once")
    await until(lambda: not keepers(report.id), "the keeper is gone")
    here = docker_agent.process.pid
    await until(lambda: here not in {row.parent for row in table().values()}, "nothing waits to be buried")
