"""From a look to findings: each state, its words and the command that mends it."""

from __future__ import annotations

import pytest

from dstack.model.host import Finding, Hop, RemoteHost
from dstack.ssh import checks
from unit.ssh.test_look import look

HERE = ("uid 0", "user root", "python 3.11.2 /usr/bin/python3", "docker_version 27.3.1", "disk_free_kib 104857600")


def host(**more: object) -> RemoteHost:
    return RemoteHost.model_validate({"hop": Hop(hostname="10.0.0.5", user="root"), **more})


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1
    return found[0]


def test_a_host_that_has_all_passes_every_check() -> None:
    found = checks.findings(look(*HERE), host())
    assert [f.check for f in found] == ["sudo", "python", "docker", "disk"]
    assert all(f.state == "ok" for f in found)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("sudo: a password is required", "u may not use sudo without a password"),
        ("sh: sudo: not found", "there is no sudo"),
    ],
)
def test_without_sudo_the_rule_to_add_is_told(error: str, message: str) -> None:
    found = checks.sudo(look("uid 1000", "user u", f"sudo_error {error}"))
    assert (found.state, found.message) == ("failed", message)
    assert "echo 'u ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/u" in found.remedy


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        (["package_manager apt-get"], "sudo sh -c 'apt-get update && apt-get install -y python3'"),
        (["package_manager dnf"], "sudo dnf install -y python3"),
        (["package_manager dnf", "python 3.6.8 /usr/libexec/platform-python"], "sudo dnf install -y python3.11"),
        ([], "install Python 3.8 or newer as python3"),
    ],
)
def test_without_a_fit_python_the_hosts_own_command_is_told(lines: list[str], remedy: str) -> None:
    found = checks.python(look(*lines))
    assert (found.state, found.remedy) == ("failed", remedy)


@pytest.mark.parametrize(
    ("lines", "message", "remedy"),
    [
        ([], "Docker is not installed", "curl -fsSL https://get.docker.com | sudo sh"),
        (
            ["docker_installed yes", "docker_error [Errno 2] No such file", "systemd yes"],
            "Docker does not answer: [Errno 2] No such file",
            "sudo systemctl enable --now docker",
        ),
        (
            ["docker_version 18.09.1"],
            "Docker Engine 18.09.1 is too old; 19.03 or newer is needed",
            "curl -fsSL https://get.docker.com | sudo sh",
        ),
    ],
)
def test_docker_missing_down_and_too_old_are_told_apart(lines: list[str], message: str, remedy: str) -> None:
    found = checks.docker(look("uid 0", *lines))
    assert (found.state, found.message, found.remedy) == ("failed", message, remedy)


def test_docker_is_not_blamed_for_missing_sudo() -> None:
    found = checks.docker(look("uid 1000", "docker_installed yes"))
    assert (found.state, found.message) == ("warning", "could not be asked without sudo")


@pytest.mark.parametrize(("kib", "state"), [(200 * 1024**2, "ok"), (2 * 1024**2, "warning"), (1024, "failed")])
def test_little_room_warns_and_none_fails(kib: int, state: str) -> None:
    assert checks.disk(look(f"disk_free_kib {kib}")).state == state


def test_the_internal_address_must_be_the_hosts_own() -> None:
    seen = look("address eth0 203.0.113.9/24", "address eth1 10.0.0.5/16")
    assert checks.internal_ip(seen, host(internal_ip="10.0.0.5")) == "10.0.0.5"
    assert checks.internal_ip(seen, host(network="10.0.0.0/16")) == "10.0.0.5"
    assert only(checks.network(seen, host(internal_ip="10.0.0.6"))).message == (
        "the host has no address 10.0.0.6; it has 203.0.113.9/24, 10.0.0.5/16"
    )
    assert only(checks.network(seen, host(network="192.168.0.0/24"))).state == "failed"
    assert checks.network(seen, host()) == []


@pytest.mark.parametrize(("allowed", "state"), [(True, "ok"), (None, "warning"), (False, "failed")])
def test_forwarding_fails_only_where_sshd_refuses_it(allowed: bool | None, state: str) -> None:
    assert checks.forwarding(allowed).state == state
