"""Sessions in containers of an agent that is not root, as on a laptop: the engine is all that leads into them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dstack.agentapi.wire import StopRequest
from support.docker_engine import unavailable
from support.sessions import TOOLS_IMAGE, Door, SessionAgent, Terminal, import_tools, run, until

pytestmark = [pytest.mark.docker, pytest.mark.root]
PYTHON = "/usr/bin/python3"  # which anybody may run
# An sshd that is not root has no terminals where the kernel does not give them to the group `tty`, as it does on any
# usual machine but in few containers: so the agent has terminals of its own, beside those of this machine.
TERMINALS = "mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts /dev/pts && "
TERMINALS += "mount --bind /dev/pts/ptmx /dev/ptmx"


@pytest.fixture(scope="module")
def ordinary_agent(zipapp: Path, docker_engine: str) -> Iterator[SessionAgent]:
    """It runs as somebody in the group that may use the engine."""
    if os.geteuid() != 0 or not os.path.exists(PYTHON):
        pytest.skip("needs root to become somebody else, and an interpreter for all")
    engine = urlsplit(docker_engine)
    if engine.scheme != "unix":
        pytest.skip("needs an engine of this machine")
    if run(["unshare", "--mount", "true"]).returncode:
        unavailable("`unshare --mount` does not work here")
    folder = Path(tempfile.mkdtemp(prefix="dstack-person-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with person(engine.path) as become:
            yield from started(folder, zipapp, docker_engine, become)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def person(socket: str) -> Iterator[list[str]]:
    """What makes a command one of somebody new who may use the engine."""
    name, group = f"dstack-person-{os.getpid()}", os.stat(socket).st_gid
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True, capture_output=True)
    try:
        become = ["setpriv", "--reuid", name, "--regid", name, "--groups", str(group)]
        if run([*become, "test", "-w", socket]).returncode:
            unavailable("no group may use the one there is")
        yield become
    finally:
        run(["userdel", name])


def started(folder: Path, zipapp: Path, docker_engine: str, become: list[str]) -> Iterator[SessionAgent]:
    shutil.copy(zipapp, folder / "agent.pyz")
    (folder / "agent.pyz").chmod(0o644)
    script = f'{TERMINALS} && chown {become[2]} {folder}/state && exec {shlex.join(become)} "$@"'
    prefix = ("unshare", "--mount", "--", "/bin/sh", "-c", script, "sh")
    agent = SessionAgent(folder, folder / "agent.pyz", "docker", docker_engine, prefix=prefix, python=PYTHON)
    try:
        import_tools(docker_engine)
        yield agent
    finally:
        agent.close()


@pytest.fixture
def door(ordinary_agent: SessionAgent) -> Iterator[Door]:
    assert ordinary_agent.ask(lambda client: client.host()).root is False
    task = ordinary_agent.task("echo job; trap '' TERM; sleep 1000 & wait; wait", image=TOOLS_IMAGE)
    yield ordinary_agent.door(task)
    ordinary_agent.end(task)


def test_a_notice_gets_into_the_log_by_the_engine_alone(door: Door):
    door.agent.ask(lambda client: client.notice(door.task_id, "It stops in 5m\x1b[2J"))
    until(lambda: b"[dstack] It stops in 5m" in logged(door), "the log")


def test_who_is_in_is_told_why_the_run_is_being_stopped(door: Door):
    terminal = Terminal(door)
    terminal.type("echo rea''dy\n")
    terminal.until("ready")
    door.agent.ask(lambda client: client.notice(door.task_id, "It stops in 5m"))
    terminal.until(r"\[dstack\] It stops in 5m")
    door.agent.ask(lambda client: client.stop(door.task_id, StopRequest(grace_s=20, reason="max_duration_exceeded")))
    terminal.until(r"being stopped \(max duration exceeded\); what still runs in \d+ s is killed")
    terminal.hang_up()


def logged(door: Door) -> bytes:
    return door.agent.ask(lambda client: client.logs(door.task_id, 0)).data
