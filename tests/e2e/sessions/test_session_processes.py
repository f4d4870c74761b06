"""Sessions beside a job that is a plain process, and machines that lack an OpenSSH server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.docker_engine import unavailable
from support.ports import free_port
from support.sessions import (
    Door,
    SessionAgent,
    Terminal,
    answers,
    mark,
    run,
    running,
    until,
    until_running,
)

pytestmark = pytest.mark.skipif(
    shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", "")) is None
    and os.environ.get("CI") != "true",
    reason="no OpenSSH server here",
)


def test_a_command_has_the_jobs_variables_and_folder_and_ends_as_it_says(beside: Door):
    done = beside.ssh("run", 'echo "$MINE"; pwd; echo err >&2; exit 42')
    assert (done.stderr, done.returncode) == (b"err\n", 42)
    assert done.stdout.decode() == f"a b\n{beside.report.working_dir}\n"


# An sshd that is not root cannot give a terminal to the group `tty`; where the kernel does not do that, there is none.
if os.geteuid() == 0 or "gid=5" in Path("/proc/mounts").read_text():

    def test_a_terminal_follows_resizing_and_interrupts(beside: Door):
        script = "trap 'exit 9' INT; trap 'echo now $(stty size)' WINCH; echo ready; while :; do sleep 0.1; done"
        terminal = Terminal(beside, script, rows=33)
        terminal.until("ready")
        terminal.resize(40, 120)
        terminal.until("now 40 120")
        terminal.type("\x03")
        assert terminal.exit_code() == 9


def test_files_are_copied_both_ways(beside: Door, tmp_path: Path):
    data = os.urandom(1_000_000)
    (tmp_path / "up").write_bytes(data)
    assert run(["scp", "-F", str(beside.config), str(tmp_path / "up"), "run:copied"]).returncode == 0
    assert Path(beside.report.working_dir, "copied").read_bytes() == data
    assert run(["scp", "-F", str(beside.config), "run:copied", str(tmp_path / "down")]).returncode == 0
    assert (tmp_path / "down").read_bytes() == data


def test_a_port_of_the_machine_is_forwarded(beside: Door, tmp_path: Path):
    theirs, mine = free_port(), free_port()
    serve = f"exec busybox httpd -f -p 127.0.0.1:{theirs} -h {tmp_path}"
    (tmp_path / "index.html").write_text("page")
    with beside.going("run", serve), beside.going("-N", "-L", f"{mine}:localhost:{theirs}", "run"):
        until(lambda: b"page" in answers(mine), "the page")


def test_a_client_that_dies_ends_its_command_but_not_a_server_that_it_started(beside: Door):
    ends, stays = f"sleep {mark(81)}", f"sleep {mark(82)}"
    with beside.going("run", f"{ends} & nohup {stays} </dev/null >/dev/null 2>&1 & echo in; wait") as client:
        assert client.stdout and client.stdout.readline() == b"in\n"
        until_running(ends, 1)
        until_running(stays, 1)
        client.kill()
        until_running(ends, 0)
    (pid,) = running(stays)
    os.kill(pid, 9)


def test_who_is_in_is_counted(process_agent: SessionAgent):
    door = process_agent.door(process_agent.task())
    with door.going("-N", "run"):
        process_agent.until(door.task_id, lambda r: r.sessions == 1 and r.inactive_since is None)
    process_agent.until(door.task_id, lambda r: r.sessions == 0 and r.inactive_since is not None)
    process_agent.end(door.task_id)


@pytest.fixture
def bare_agent(tmp_path: Path, zipapp: Path) -> Iterator[SessionAgent]:
    """An agent on a machine without sshd: in a view of the files where there is none."""
    if os.geteuid() != 0:
        pytest.skip("hiding sshd needs root")
    if run(["unshare", "--mount", "true"]).returncode:
        unavailable("`unshare --mount` does not work here")
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    hide = ("unshare", "--mount", "--", "/bin/sh", "-c", f'mount --bind /dev/null {sshd}; exec "$@"', "sh")
    agent = SessionAgent(tmp_path, zipapp, "process", prefix=hide)
    yield agent
    agent.close()


@pytest.mark.root
def test_without_sshd_a_task_runs_and_says_what_to_install(bare_agent: SessionAgent):
    task = bare_agent.task("sleep 100000")
    report = bare_agent.until(task, lambda r: bool(r.session_message))
    assert report.state == "running" and "10022" not in report.ports
    assert "install openssh-server" in report.session_message
