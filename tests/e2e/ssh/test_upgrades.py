"""A newer agent in place of an older one, and back where the newer does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

import dstack
from dstack.agentapi.wire import ENDED
from dstack.ssh.host import Unfit
from e2e.ssh import jobs
from e2e.ssh.conftest import Reach
from support.bundles import changed
from support.hosts import Hosts
from support.hosts_one import TestHost

pytestmark = pytest.mark.root


def programs(host: TestHost) -> set[str]:
    return {path.name for path in host.path("/opt/dstack").iterdir() if path.name.startswith("agent-")}


async def test_an_upgrade_leaves_the_running_job_alone_and_the_log_whole(
    hosts: Hosts, reach: Reach, tmp_path: Path
) -> None:
    host = hosts["host-a"]
    id, _ = await reach.ready(host)
    client = await reach.client(id)
    before = (await client.health()).run
    job = await jobs.start(client, "for i in $(seq 30); do echo $i; sleep 0.1; done")
    await reach.ready(host, id=id, bundle=changed(reach.bundle, tmp_path))
    assert (await client.health()).run != before
    assert (await jobs.until(client, job, ENDED)).exit_code == 0
    assert await jobs.log(client, job) == "".join(f"{i}\n" for i in range(1, 31))
    assert len(programs(host)) == 2  # the one before it stays for a way back
    await client.aclose()


async def test_a_newer_agent_that_does_not_run_gives_way_to_the_older_one(
    hosts: Hosts, reach: Reach, tmp_path: Path
) -> None:
    host = hosts["host-a"]
    id, _ = await reach.ready(host)
    link = host.path("/opt/dstack/agent.pyz").readlink()
    broken = changed(reach.bundle, tmp_path, "raise SystemExit('this agent is broken')\n")
    _, done = await reach.onboard(host, id, bundle=broken)
    assert isinstance(done, Unfit)
    assert [f.check for f in done.report.failed] == ["agent"]
    assert "this agent is broken" in done.report.failed[0].message
    assert host.path("/opt/dstack/agent.pyz").readlink() == link
    client = await reach.client(id)
    assert (await client.health()).version
    await client.aclose()


async def test_a_first_agent_that_does_not_run_is_told_and_leaves_no_process(
    hosts: Hosts, reach: Reach, tmp_path: Path
) -> None:
    host = hosts["host-a"]
    broken = changed(reach.bundle, tmp_path, "raise SystemExit('this agent is broken')\n")
    id, done = await reach.onboard(host, bundle=broken)
    assert isinstance(done, Unfit) and "this agent is broken" in done.report.failed[0].message
    assert not [line for line in host.processes() if "agent.pyz" in line]
    await reach.ready(host, id=id)


async def test_an_older_agent_is_replaced_when_a_server_comes_and_its_job_goes_on(
    hosts: Hosts, reach: Reach, tmp_path: Path
) -> None:
    host = hosts["host-a"]
    id, _ = await reach.ready(host, bundle=changed(reach.bundle, tmp_path, version="0.1.2"))
    client = await reach.client(id)
    assert (await client.health()).version == "0.1.2"
    job = await jobs.start(client, "for i in $(seq 30); do echo $i; sleep 0.1; done")
    done = await reach.ssh.upgrade(*reach.way(id), reach.bundle)
    assert (done.before, done.now, done.problem) == ("0.1.2", dstack.__version__, "")
    assert (await client.health()).version == dstack.__version__
    assert (await jobs.until(client, job, ENDED)).exit_code == 0
    assert await jobs.log(client, job) == "".join(f"{i}\n" for i in range(1, 31))
    await client.aclose()


async def test_an_upgrade_that_does_not_run_is_taken_back_and_not_tried_again(
    hosts: Hosts, reach: Reach, tmp_path: Path
) -> None:
    id, _ = await reach.ready(hosts["host-a"])
    broken = changed(reach.bundle, tmp_path, "raise SystemExit('this agent is broken')\n", version="99.0")
    done = await reach.ssh.upgrade(*reach.way(id), broken)
    assert done.now == dstack.__version__ and "this agent is broken" in done.problem
    client = await reach.client(id)
    before = await client.health()
    assert before.version == dstack.__version__
    assert (await reach.ssh.upgrade(*reach.way(id), broken)).problem == done.problem
    assert (await client.health()).run == before.run
    await client.aclose()


async def test_a_newer_agent_that_does_not_know_the_tasks_of_the_host_is_taken_back(
    hosts: Hosts, reach: Reach, tmp_path: Path
) -> None:
    host = hosts["host-a"]
    id, _ = await reach.ready(host)
    client = await reach.client(id)
    job = await jobs.start(client, "sleep 600")
    forgetful = "import dstack.agent.tasks as t\nt.Tasks.all = lambda self: []\n"
    done = await reach.ssh.upgrade(*reach.way(id), changed(reach.bundle, tmp_path, forgetful, version="99.0"))
    assert done.problem == "the newer agent does not know 1 of the host's tasks"
    assert (await client.health()).version == dstack.__version__
    assert [each.id for each in await client.tasks()] == [job]
    await client.aclose()


async def test_where_systemd_runs_the_agent_is_a_unit_whose_children_outlive_it(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-b"]
    host.run("mkdir", "-p", "/run/systemd/system")
    host.write("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
    try:
        id, _ = await reach.ready(host)
        unit = host.path("/etc/systemd/system/dstack-agent.service").read_text()
        assert "KillMode=process" in unit and "Restart=always" in unit
        assert "--daemon" not in unit and "--socket /run/dstack/agent.sock" in unit
        client = await reach.client(id)
        assert (await client.health()).version
        await client.aclose()
        await reach.offboard(id)
        reach.lost(id)
        calls = host.path("/run/systemctl.log").read_text().split("\n")
        assert calls[:3] == ["daemon-reload", "enable dstack-agent.service", "restart dstack-agent.service"]
        assert not host.path("/etc/systemd/system/dstack-agent.service").exists()
        assert not [line for line in host.processes() if "agent.pyz" in line]
    finally:
        host.run("rm", "-rf", "/run/systemd", "/usr/local/bin/systemctl", "/run/systemctl.log")


# As much of systemd as the installer asks for: it notes each call, starts what the unit says, and ends it.
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >>/run/systemctl.log
unit=/etc/systemd/system/dstack-agent.service
case $1 in
restart | stop)
    [ -f /run/unit.pid ] && kill "$(cat /run/unit.pid)" && while kill -0 "$(cat /run/unit.pid)"; do sleep 0.05; done
    rm -f /run/unit.pid
    ;;
esac
if [ "$1" = restart ]; then
    mkdir -p -m 755 /run/dstack
    setsid $(sed -n 's/^ExecStart=//p' $unit) </dev/null >/dev/null 2>&1 &
    echo $! >/run/unit.pid
fi
exit 0
"""
