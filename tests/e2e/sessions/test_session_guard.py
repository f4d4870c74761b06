"""The packet filter's rules that keep containers from the machine and from the cloud's metadata."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import ip_address
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
    gateway = str(ip_address(guarded.until(task, lambda r: r.state == "running").ip) - 1)  # alone in its network
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


def test_a_guarded_task_reaches_no_address_of_metadata(guarded: SessionAgent, link_local: tuple[str, int]):
    """A network of its own stands for the cloud's: the container's packets pass through the machine to it."""
    address, port = link_local
    door = guarded.door(guarded.task())
    until(lambda: rules("DOCKER-USER", "DSTACK-THROUGH"), "the rules")
    ask = f"echo | nc -w 3 {address} {port}"
    assert b"credentials" not in door.ssh("run", ask).stdout
    leave(guarded)
    assert b"credentials" in door.ssh("run", ask).stdout


@pytest.fixture
def link_local() -> Iterator[tuple[str, int]]:
    """(address, port) of a service in a network of its own, at a link-local address that only this test uses."""
    name, address, port = f"dstmd{os.getpid()}", "169.254.77.77", 8077
    inside = ["ip", "netns", "exec", name]
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", f"{name[:10]}o", "type", "veth", "peer", "name", "md0", "netns", name],
        ["ip", "addr", "add", "10.254.77.1/30", "dev", f"{name[:10]}o"],
        ["ip", "link", "set", f"{name[:10]}o", "up"],
        [*inside, "ip", "addr", "add", "10.254.77.2/30", "dev", "md0"],
        [*inside, "ip", "addr", "add", f"{address}/32", "dev", "md0"],
        [*inside, "ip", "link", "set", "md0", "up"],
        [*inside, "ip", "link", "set", "lo", "up"],
        [*inside, "ip", "route", "add", "default", "via", "10.254.77.1"],
        ["ip", "route", "add", f"{address}/32", "via", "10.254.77.2"],
    ]
    service = None
    try:
        for step in steps:
            done = run(step)
            assert done.returncode == 0, done
        serve = ["busybox", "nc", "-ll", "-p", str(port), "-e", "echo", "credentials"]
        service = subprocess.Popen([*inside, *serve], stdin=subprocess.DEVNULL)
        until(lambda: b"credentials" in answers_at(address, port), "the service")
        yield address, port
    finally:
        if service is not None:
            service.kill()
            service.wait()
        run(["ip", "route", "del", f"{address}/32", "via", "10.254.77.2"])
        run(["ip", "netns", "del", name])


def answers_at(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), 5) as s:
            return s.recv(100)
    except OSError:
        return b""


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
