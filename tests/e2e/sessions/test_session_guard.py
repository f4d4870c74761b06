"""The packet filter's rules that keep containers from the machine and from the cloud's metadata."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.docker_engine import unavailable
from support.sessions import SessionAgent, run, until

pytestmark = [pytest.mark.docker, pytest.mark.root]


@pytest.fixture
def guarded(tmp_path: Path, zipapp: Path, docker_engine: str) -> Iterator[SessionAgent]:
    if shutil.which("iptables") is None or run(["iptables", "-w", "5", "-S", "DOCKER-USER"]).returncode:
        unavailable("the engine's packet filter cannot be seen")
    agent = SessionAgent(tmp_path, zipapp, "docker", docker_engine, "--guard")
    try:
        yield agent
    finally:
        agent.close()
        leave(agent)


def leave(agent: SessionAgent) -> None:
    done = run([agent.live.python, "-IS", str(agent.live.zipapp), "leave"])
    assert done.returncode == 0, done


def test_a_guarded_task_reaches_neither_the_machine_nor_metadata_until_the_agent_leaves(guarded: SessionAgent):
    task = guarded.task()
    gateway = guarded.until(task, lambda r: r.state == "running").ip.rsplit(".", 1)[0] + ".1"
    door = guarded.door(task)
    until(lambda: rules("INPUT", "DSTACK-IN") and rules("DOCKER-USER", "DSTACK-THROUGH"), "the rules")
    assert b"-d 169.254.0.0/16 -j REJECT" in run(["iptables", "-w", "5", "-S", "DSTACK-THROUGH"]).stdout
    with socket.create_server((gateway, 0)) as service:
        ask = f"echo | nc -w 3 {gateway} {service.getsockname()[1]}"
        threading.Thread(target=_answer_one, args=(service,), daemon=True).start()
        assert b"the machine" not in door.ssh("run", ask).stdout
        leave(guarded)
        assert not rules("INPUT", "DSTACK-IN")
        assert b"the machine" in door.ssh("run", ask).stdout


def test_rules_that_somebody_removed_are_there_again_for_the_next_task(guarded: SessionAgent):
    until(lambda: rules("INPUT", "DSTACK-IN"), "the rules")
    leave(guarded)
    guarded.task()
    until(lambda: rules("INPUT", "DSTACK-IN") and rules("DOCKER-USER", "DSTACK-THROUGH"), "the rules again")


def rules(chain: str, target: str) -> bool:
    return f"-i dst-+ -j {target}".encode() in run(["iptables", "-w", "5", "-S", chain]).stdout


def _answer_one(service: socket.socket) -> None:
    connection, _ = service.accept()
    with connection:
        connection.sendall(b"the machine")
        connection.recv(100)
