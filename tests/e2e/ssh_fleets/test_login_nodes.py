"""Hosts that only a login node reaches, each with a key of its own: set up, used, entered."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.ssh_fleets.conftest import READY_S, Lab
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts_one import SUDOER, generate_key
from support.product import ROOT, Ended, eventually

pytestmark = [pytest.mark.root, pytest.mark.docker]
HIDDEN = ("host-b", "host-c")
AUTHORIZED = f"/home/{SUDOER}/.ssh/authorized_keys"


@pytest.fixture(scope="module")
def head_key(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The one key that the login node takes; the hosts behind it do not take it, and do not answer this machine."""
    key, login = tmp_path_factory.mktemp("keys") / "head_node_key", lab.hosts["login"]
    generate_key(key)
    before = login.path(AUTHORIZED).read_text()
    login.path(AUTHORIZED).write_text(key.with_name(key.name + ".pub").read_text())
    wall = ("blackhole", f"{lab.hosts.subnet}.1/32")
    for name in HIDDEN:
        lab.hosts[name].run("ip", "route", "add", *wall)
    yield key
    lab.product.cli("stop", "-y", "--abort", "lasting").ok()
    lab.product.wait_status("lasting", "terminated", deadline_s=READY_S)
    lab.product.cli("fleet", "delete", "behind-login", "-y", deadline_s=READY_S).ok()
    for name in HIDDEN:
        lab.hosts[name].run("ip", "route", "del", *wall)
    login.path(AUTHORIZED).write_text(before)


@pytest.fixture(scope="module", autouse=True)
def fleet(lab: Lab, head_key: Path) -> None:
    """The fleet of the example, and a run in it that lasts."""
    text = (ROOT / "examples" / "ssh" / "login-node.dstack.yml").read_text()
    names = {"10.213.0.12": "host-b", "10.213.0.13": "host-c", "10.213.0.14": "login"}
    for written, name in names.items():
        text = text.replace(written, lab.hosts[name].address)
    text = text.replace("~/.ssh/worker_node_key", str(lab.hosts.key)).replace("~/.ssh/head_node_key", str(head_key))
    done = lab.product.cli("apply", "-y", "-f", lab.product.write(text, "behind-login.dstack.yml"), deadline_s=READY_S)
    assert done.ok().out.count("idle") == 2
    file = lab.task("lasting", "echo it runs", "sleep 1000", on="host-b")
    lab.product.cli("apply", "-y", "-d", "-f", file).ok()
    lab.product.wait_status("lasting", "running")
    login = lab.hosts["login"].address
    own = lab.product.folder / ".ssh" / "config"
    own.parent.mkdir(exist_ok=True)
    own.write_text(f"Host {login}\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n")


def test_a_task_behind_a_login_node_runs_to_its_end_and_its_log_is_there(lab: Lab) -> None:
    more = f"image: {BUSYBOX_IMAGE}\ninstances:\n  - hostname: {lab.hosts['host-c'].address}\nports: [8000]"
    file = lab.product.task("short", "echo at $(hostname)", "exit 3", more=more)
    done = lab.product.cli("apply", "-y", "-f", file, deadline_s=READY_S)
    log = lab.product.cli("logs", "short").ok().out
    assert done.code == 3 and log.startswith("at ") and log in done.out
    eventually(lambda: lab.product.cli("logs", "lasting").out == "it runs\n", READY_S, lambda: "it prints nothing")


def test_with_the_login_nodes_key_in_the_ssh_agent_one_gets_into_a_run(lab: Lab, head_key: Path) -> None:
    with _ssh_agent(head_key) as env:
        command = lab.product.begin("attach", "lasting", env=env)
        command.wait_for("To connect to the run via SSH", READY_S)
        assert "through the server" not in command.err
        assert _ssh(lab, "lasting", "echo inside; exit 5", env=env) == Ended(5, "inside\n", "")
        command.interrupt()
        assert command.ended(READY_S).code == 0


def test_without_that_key_the_way_goes_through_the_server_and_says_why(lab: Lab) -> None:
    command = lab.product.begin("attach", "lasting", env={"SSH_AUTH_SOCK": ""})
    command.wait_for("To connect to the run via SSH", READY_S)
    refused = f"{SUDOER}@{lab.hosts['login'].address}: Permission denied (publickey)."
    command.wait_for(f"The connection goes through the server: {refused}", READY_S)
    assert _ssh(lab, "lasting", "echo inside; exit 6", env={}) == Ended(6, "inside\n", "")
    command.interrupt()
    assert command.ended(READY_S).code == 0


@contextmanager
def _ssh_agent(key: Path) -> Iterator[dict[str, str]]:
    """An agent of OpenSSH that has the key; the environment that names it."""
    env = {"SSH_AUTH_SOCK": str(key.with_name("agent.sock"))}
    process = subprocess.Popen(["ssh-agent", "-D", "-a", env["SSH_AUTH_SOCK"]], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        subprocess.run(["ssh-add", "-q", key], env={**os.environ, **env}, check=True, timeout=30)
        yield env
    finally:
        process.kill()
        process.communicate()


def _ssh(lab: Lab, name: str, *words: str, env: dict[str, str]) -> Ended:
    command = ["ssh", "-F", str(lab.product.folder / ".ssh" / "config"), name, *words]
    done = subprocess.run(
        command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=READY_S
    )
    return Ended(done.returncode, done.stdout, done.stderr)
