"""A list of hosts becomes a fleet, jobs run on them, their faults are told apart, and they are left clean."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

import dstack
from e2e.ssh_fleets.conftest import READY_S, Lab
from support.bundles import changed
from support.hosts_one import PLAIN, TestHost
from support.product import eventually
from support.several import counted

pytestmark = [pytest.mark.root, pytest.mark.docker]
ALL = ("host-a", "host-b", "host-c")
COUNT = 'n=0; while [ ! -e /tmp/go ]; do n=$((n+1)); echo "line $n"; sleep 0.1; done; echo "end $n"'


def go(host: TestHost) -> None:
    """Let the one job that runs there, which waits for it, come to its end."""
    host.run("sh", "-c", "docker exec $(docker ps -q) touch /tmp/go")


@pytest.fixture(scope="module", autouse=True)
def fleet(lab: Lab) -> str:
    """The fleet `lab` of three hosts, once it is in use."""
    done = lab.product.cli("apply", "-y", "-f", lab.example("fleet", name="lab"), deadline_s=READY_S).ok()
    for name in ALL:
        assert f"{lab.hosts[name].address}: ready in" in done.err
    assert done.out.count("ssh (remote)") == 3 and done.out.count("idle") == 3
    return "lab"


def test_a_task_runs_on_the_host_that_is_named(lab: Lab) -> None:
    file = lab.task("named", "echo on $DSTACK_MASTER_NODE_IP", on="host-b")
    done = lab.product.cli("apply", "-y", "-f", file).ok()
    assert f"on {lab.hosts['host-b'].address}" in done.out


def test_a_host_that_is_cut_off_is_unreachable_and_its_job_goes_on(lab: Lab) -> None:
    host = lab.hosts["host-a"]
    lab.product.cli("apply", "-y", "-d", "-f", lab.task("steady", COUNT, on="host-a")).ok()
    lab.product.wait_status("steady", "running")
    host.run("pkill", "-KILL", "sshd")  # the listener, and all connections
    seen = lab.until_unreachable("lab", "host-a")
    assert seen["status"] == "busy" and "Nothing listens on" in lab.product.cli("why", "lab").out
    host.path("/run/sshd.pid").unlink(missing_ok=True)
    host.start_sshd()
    lab.until_unreachable("lab", "host-a", wanted=False)
    go(host)
    lab.product.wait_status("steady", "done", deadline_s=READY_S)
    assert counted(lab.product.cli("logs", "steady").out)


def test_a_newer_server_replaces_the_older_agent_of_a_host_and_its_job_goes_on(lab: Lab, tmp_path: Path) -> None:
    host = lab.hosts["host-b"]
    lab.product.cli("apply", "-y", "-d", "-f", lab.task("lasts", COUNT, on="host-b")).ok()
    lab.product.wait_status("lasts", "running")
    lab.product.stop(signal.SIGTERM)
    _put_older_agent(host, tmp_path)
    lab.product.start()
    record = host.path("/opt/dstack/agent.json")
    eventually(lambda: json.loads(record.read_text())["version"] == dstack.__version__, READY_S, record.read_text)
    go(host)
    lab.product.wait_status("lasts", "done", deadline_s=READY_S)
    assert counted(lab.product.cli("logs", "lasts").out)


def _put_older_agent(host: TestHost, folder: Path) -> None:
    """As a server of the version 0.1.2 left it."""
    record = host.path("/opt/dstack/agent.json")
    older = changed(host.path("/opt/dstack") / host.path("/opt/dstack/agent.pyz").readlink(), folder, version="0.1.2")
    host.path("/opt/dstack/agent-older.pyz").write_bytes(older.read_bytes())
    host.run("ln", "-sf", "agent-older.pyz", "/opt/dstack/agent.pyz")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"sha": "older", "version": "0.1.2"}))
    host.kill_agent()


def test_a_reboot_is_told_from_a_network_cut_and_ends_what_ran(lab: Lab) -> None:
    file = lab.task("doomed", 'i=0; while true; do i=$((i+1)); echo "line $i"; sleep 0.05; done', on="host-c")
    lab.product.cli("apply", "-y", "-d", "-f", file).ok()
    eventually(lambda: "line 20\n" in lab.product.cli("logs", "doomed").out, READY_S, lambda: "it prints nothing")
    lab.hosts["host-c"].reboot()
    run = lab.product.wait_status("doomed", "failed", deadline_s=READY_S)
    (ended,) = run["jobs"][0]["job_submissions"]
    assert ended["exit_status"] is None and "The host was rebooted" in ended["termination_reason_message"]
    log, said = lab.product.cli("logs", "doomed").out.split("[dstack] ")
    assert said == "The end of this log may be missing: the machine was restarted\n"
    log = log.removesuffix("\n")  # of the last line, or before what is said
    assert "line 20\n" in log and "".join(f"line {i}\n" for i in range(1, log.count("\n") + 2)).startswith(log)
    lab.until_unreachable("lab", "host-c", wanted=False)
    events = lab.product.cli("event", "--within-fleet", "lab").ok().out
    assert "rebooted and answers again" in events


def test_what_a_host_lacks_is_told_with_the_command_that_mends_it(lab: Lab) -> None:
    bare = lab.hosts["bare"].address
    done = lab.apply("lab", [*ALL, "bare", {"hostname": lab.hosts["login"].address, "user": PLAIN}])
    assert done.code == 1
    assert f"{bare}: cannot be used" in done.err and "docker: " in done.err
    assert f"sudo: {PLAIN} may not use sudo" in done.err and "mend it: as root: echo" in done.err
    assert {i["status"] for i in lab.instances("lab")[:3]} == {"idle"}


def test_a_host_is_removed_in_place_and_left_clean(lab: Lab) -> None:
    host = lab.hosts["host-c"]
    lab.apply("lab", ALL[:2])
    eventually(lambda: not host.path("/var/lib/dstack").exists(), READY_S, lambda: "the agent is still there")
    assert [i["instance_num"] for i in lab.instances("lab") if i["status"] == "idle"] == [0, 1]


def test_a_cordoned_host_gets_no_job_and_says_why(lab: Lab) -> None:
    lab.product.cli("fleet", "cordon", "lab", "-i", "1").ok()
    file = lab.task("nowhere", "true", on="host-b")
    plan = lab.product.cli("plan", "-f", file)
    assert "takes no new jobs" in plan.text
    lab.product.cli("fleet", "uncordon", "lab").ok()
    lab.product.cli("apply", "-y", "-f", file).ok()


def test_a_job_goes_on_where_no_new_one_may_come_and_a_drain_waits_for_its_end(lab: Lab) -> None:
    host = lab.hosts["host-a"]
    file = lab.task("finishing", "until [ -e /tmp/go ]; do sleep 0.1; done; echo whole", on="host-a")
    lab.product.cli("apply", "-y", "-d", "-f", file).ok()
    lab.product.wait_status("finishing", "running")
    lab.product.cli("fleet", "cordon", "lab", "-i", "0").ok()
    assert "takes no new jobs" in lab.product.cli("plan", "-f", lab.task("later", "true", on="host-a")).text
    draining = lab.product.begin("fleet", "drain", "lab", "-i", "0")
    draining.wait_for("Waiting for finishing")
    assert lab.product.run("finishing")["status"] == "running"
    go(host)
    assert "Fleet lab, instance 0: drained" in draining.ended(READY_S).out
    lab.product.wait_status("finishing", "done")
    assert lab.product.cli("logs", "finishing").out == "whole\n"
    lab.product.cli("fleet", "uncordon", "lab", "-i", "0").ok()


def test_a_drained_host_is_empty_when_its_job_was_stopped(lab: Lab) -> None:
    file = lab.task("lasting", "sleep 1000", on="host-a")
    lab.product.cli("apply", "-y", "-d", "-f", file).ok()
    lab.product.wait_status("lasting", "running")
    done = lab.product.cli("fleet", "drain", "lab", "-i", "0", "--stop", deadline_s=READY_S).ok()
    assert "Fleet lab, instance 0: drained" in done.out
    lab.product.wait_status("lasting", "terminated")
    assert lab.instance("lab", "host-a")["busy_blocks"] == 0


def test_a_host_in_use_is_not_removed(lab: Lab) -> None:
    lab.product.cli("fleet", "uncordon", "lab").ok()
    file = lab.task("staying", "sleep 1000", on="host-b")
    lab.product.cli("apply", "-y", "-d", "-f", file).ok()
    lab.product.wait_status("staying", "running")
    refused = lab.apply("lab", ALL[:1])
    assert refused.code == 1 and "it is in use by staying" in refused.err
    lab.product.cli("stop", "-y", "staying").ok()
    lab.product.wait_status("staying", "terminated")


def test_a_deleted_fleet_leaves_its_hosts_as_they_were(lab: Lab) -> None:
    lab.product.stop(signal.SIGTERM)  # what was set up before a restart is left after it
    lab.product.start()
    lab.product.cli("fleet", "delete", "lab", "-y", deadline_s=READY_S).ok()
    for name in ALL:
        host = lab.hosts[name]
        assert not host.path("/var/lib/dstack").exists() and not host.path("/opt/dstack").exists()
        assert not [line for line in host.processes() if "dstack/agent" in line]
