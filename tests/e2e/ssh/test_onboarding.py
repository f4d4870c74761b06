"""Hosts taken in: what must be there, what is told where it is not, and what stands afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dstack.model.host import Finding
from dstack.ssh.checks import reachability
from dstack.ssh.host import Onboarded, PinnedKeys, Unfit
from e2e.ssh.conftest import DEADLINE_S, Reach
from support.hosts import Hosts
from support.hosts_one import PLAIN, SUDOER, TestHost

pytestmark = pytest.mark.root

THREE = ("host-a", "host-b", "host-c")
OLD_PYTHON = "#!/bin/sh\necho 3.6.9\n"
WAITS = "/run/waits"  # while it is there, WAITING_PYTHON writes to it that it was asked, and waits
WAITING_PYTHON = f"#!/bin/sh\necho asked >{WAITS}\nwhile [ -e {WAITS} ]; do sleep 0.05; done\necho 3.6.9\n"


def failed(done: Onboarded | Unfit) -> Finding:
    """The one thing that is wrong."""
    assert isinstance(done, Unfit), done
    assert len(done.report.failed) == 1, done.report.failed
    return done.report.failed[0]


async def test_three_hosts_are_made_ready_at_once(hosts: Hosts, reach: Reach) -> None:
    for name in THREE:
        hosts[name].write(WAITS, "", 0o666)
        hosts[name].write("/usr/local/bin/python3", WAITING_PYTHON, 0o755)
    try:
        onboarding = asyncio.gather(*(reach.ready(hosts[name]) for name in THREE))
        async with asyncio.timeout(DEADLINE_S):  # none waits until another is done
            while not all(hosts[name].path(WAITS).read_text() for name in THREE):
                await asyncio.sleep(0.05)
    finally:
        for name in THREE:
            hosts[name].path("/usr/local/bin/python3").unlink()
            hosts[name].path(WAITS).unlink()
    done = await onboarding
    for name, (_, host) in zip(THREE, done, strict=True):
        assert host.facts.hostname == name
        assert host.facts.runtime == "docker" and host.facts.root
        assert host.facts.boot_id == hosts[name].path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert host.addresses == (f"{hosts[name].address}/24",)
        assert host.pinned.host and host.pinned.host.startswith("ssh-ed25519 ")
        assert {f.check for f in host.report.findings} >= {"ssh", "sudo", "python", "docker", "disk", "forwarding"}


async def test_the_agent_answers_over_the_connection_and_only_the_login_user_may_open_its_socket(
    hosts: Hosts, reach: Reach
) -> None:
    id, _ = await reach.ready(hosts["host-a"])
    client = await reach.client(id)
    assert (await client.health()).version
    await client.aclose()
    assert hosts["host-a"].run("stat", "-c", "%a %U", "/run/dstack/agent.sock").split() == ["600", SUDOER]
    assert hosts["host-a"].run("stat", "-c", "%a %U", "/var/lib/dstack/agent").split() == ["700", "root"]


async def test_root_itself_may_be_the_user(hosts: Hosts, reach: Reach) -> None:
    _, done = await reach.ready(hosts["host-a"], user="root")
    assert done.facts.hostname == "host-a"


async def test_of_a_host_with_a_certificate_the_plain_key_is_pinned(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-c"]
    sign = "ssh-keygen -q -t ed25519 -N '' -f ca && ssh-keygen -q -s ca -I host -h ssh_host_ed25519_key.pub"
    host.run("sh", "-c", f"cd /etc/ssh && {sign}")
    host.start_sshd("HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub\n")
    try:
        _, done = await reach.ready(host)
        assert done.pinned.host == " ".join(host.path("/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])
    finally:
        host.start_sshd()
        host.run("sh", "-c", "rm /etc/ssh/ca* /etc/ssh/*-cert.pub")


async def test_a_user_without_sudo_is_told_the_rule_to_add(hosts: Hosts, reach: Reach) -> None:
    _, done = await reach.onboard(hosts["host-a"], user=PLAIN)
    assert "plain may not use sudo without a password" in failed(done).message
    assert "plain ALL=(ALL) NOPASSWD:ALL" in failed(done).remedy
    assert not hosts["host-a"].path("/opt/dstack").exists()


async def test_nothing_at_the_address_is_told(hosts: Hosts, reach: Reach) -> None:
    silent = TestHost("silent", "127.0.0.1", Path("/nowhere"), 0, hosts.key, docker=False, owned=True)
    at = reach.at(silent)
    at = at.model_copy(update={"hop": at.hop.model_copy(update={"port": 1})})
    done = await reach.ssh.onboard("x", at, reach.credentials(), PinnedKeys(), reach.bundle)
    assert "Nothing listens on 127.0.0.1:1" in failed(done).message


async def test_a_host_without_docker_is_told_how_to_get_it(hosts: Hosts, reach: Reach) -> None:
    _, done = await reach.onboard(hosts["bare"])
    finding = failed(done)
    assert (finding.check, finding.message) == ("docker", "Docker is not installed")
    assert "get.docker.com" in finding.remedy


async def test_an_engine_that_is_down_is_told_from_one_that_is_missing(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-c"]
    host.kill_docker()
    try:
        _, done = await reach.onboard(host)
        assert failed(done).check == "docker" and "does not answer" in failed(done).message
    finally:
        host.start_docker()


async def test_a_python_that_is_too_old_is_passed_over_for_a_newer_one(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-a"]
    host.write("/usr/local/bin/python3", OLD_PYTHON, 0o755)
    try:
        _, done = await reach.ready(host)
    finally:
        host.path("/usr/local/bin/python3").unlink()
    told = {f.check: f.message for f in done.report.findings}
    assert "python3.11" in told["python"]


async def test_where_every_python_is_too_old_the_version_is_told(hosts: Hosts, reach: Reach) -> None:
    host = hosts["bare"]
    names = ["python3", *(f"python3.{minor}" for minor in range(8, 15))]
    for name in names:
        host.write(f"/usr/local/bin/{name}", OLD_PYTHON, 0o755)
    try:
        _, done = await reach.onboard(host)
    finally:
        for name in names:
            host.path(f"/usr/local/bin/{name}").unlink()
    assert isinstance(done, Unfit)
    told = {f.check: f for f in done.report.failed}
    assert told["python"].message == "/usr/local/bin/python3 is Python 3.6.9; 3.8 or newer is needed"


async def test_a_host_without_python_gets_it_from_its_package_manager(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-b"]
    host.run("sh", "-c", "mkdir /kept && mv /usr/bin/python3* /kept/")
    host.write("/usr/local/bin/apt-get", "#!/bin/sh\n[ $1 = update ] || cp -P /kept/python3* /usr/bin/\n", 0o755)
    try:
        await reach.ready(host)
    finally:
        host.run("sh", "-c", "cp -P /kept/* /usr/bin/; rm -r /kept /usr/local/bin/apt-get")


async def test_sshd_that_forwards_nothing_is_told(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-a"]
    host.start_sshd("AllowTcpForwarding no\n")
    try:
        _, done = await reach.onboard(host)
    finally:
        host.start_sshd()
    assert failed(done).check == "forwarding" and "AllowTcpForwarding yes" in failed(done).remedy


async def test_where_sshd_forwards_no_sockets_many_talk_to_the_agent_all_the_same(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-a"]
    host.start_sshd("AllowStreamLocalForwarding no\n")
    try:
        id, _ = await reach.ready(host)
        client = await reach.client(id)
        run = (await client.health()).run
        pages = [client.events(run, 10**6, wait_s=1.0) for _ in range(14)]  # one connection carries ten
        assert all(page.run == run for page in await asyncio.gather(*pages))
        await client.aclose()
    finally:
        host.start_sshd()


async def test_hosts_of_a_cluster_that_cannot_reach_each_other_are_told_apart(hosts: Hosts, reach: Reach) -> None:
    here, there, fenced = hosts["host-a"], hosts["host-b"], hosts["host-c"]
    id, done = await reach.ready(here)
    others = [(there.address, 22), (fenced.address, 22)]
    ask = (id, reach.at(here), reach.credentials(), done.pinned, others)
    assert await reach.ssh.unreached(*ask) == ()
    only_ssh = ("INPUT", "-s", here.address, "-p", "tcp", "!", "--dport", "22", "-j", "DROP")
    fenced.run("iptables", "-I", *only_ssh)
    try:
        problems = await reach.ssh.unreached(*ask)
    finally:
        fenced.run("iptables", "-D", *only_ssh)
    assert len(problems) == 1 and problems[0].startswith(f"{fenced.address}: port 29400: ")
    assert reachability(problems).state == "failed"
