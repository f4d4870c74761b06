"""Hosts that are cut into blocks: jobs beside one another that get their part and see nothing of each other."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from e2e.ssh_fleets.conftest import READY_S, Lab
from support.docker_engine import BUSYBOX_IMAGE, call
from support.product import eventually

pytestmark = [pytest.mark.root, pytest.mark.docker]
PAGE = "mkdir -p /www && echo secret >/www/index.html && echo serves && httpd -f -p 8000 -h /www"


@pytest.fixture(scope="module", autouse=True)
def two(lab: Lab) -> None:
    """The fleet of the example, with two jobs on its first host: one serves a page, the other is the example's."""
    done = lab.product.cli("apply", "-y", "-f", lab.example("blocks"), deadline_s=READY_S).ok()
    assert done.out.count("idle") == 3
    where = f"instances:\n  - hostname: {lab.hosts['host-a'].address}"
    more = f"image: {BUSYBOX_IMAGE}\nresources: {{cpu: 1, memory: 1GB}}\n{where}"
    for file in (lab.product.task("serves", PAGE, more=more), lab.example("half")):
        lab.product.cli("apply", "-y", "-d", "-f", file).ok()
    for name in ("serves", "half"):
        lab.product.wait_status(name, "running", deadline_s=READY_S)


def container(lab: Lab, run: str) -> dict[str, Any]:
    """What the engine of the host knows of the run's container."""
    job = lab.product.run(run)["jobs"][0]["job_submissions"][-1]["id"]
    wanted = quote(json.dumps({"label": [f"dstack.task={job}"]}))
    url = lab.hosts["host-a"].docker_url
    (found,) = call(url, "GET", f"/containers/json?filters={wanted}")
    return call(url, "GET", f"/containers/{found['Id']}/json")


def inside(lab: Lab, run: str, command: str) -> str:
    """What a shell in the run's container prints."""
    return lab.hosts["host-a"].run("docker", "exec", container(lab, run)["Id"], "sh", "-c", command, check=False)


def test_both_are_on_one_host_and_the_fleet_says_how_much_of_it_is_taken(lab: Lab) -> None:
    listed = lab.product.cli("fleet", "--json").json()["fleets"][0]["instances"]
    parts = {one["x_host"]: (one["busy_blocks"], one["total_blocks"]) for one in listed}
    first, second, third = (lab.hosts[name].address for name in ("host-a", "host-b", "host-c"))
    cores = int(lab.hosts["host-b"].run("nproc"))
    assert parts == {first: (2, 2), second: (0, cores), third: (0, 1)}
    assert "2/2 busy" in lab.product.cli("fleet").out
    assert lab.product.cli("ps", "-v").out.count("(1/2)") == 2


def test_each_has_the_limits_of_its_part(lab: Lab) -> None:
    host = lab.instance("shared", "host-a")["instance_type"]["resources"]
    for run in ("serves", "half"):
        limits = container(lab, run)["HostConfig"]
        assert limits["NanoCpus"] == host["cpus"] / 2 * 1e9
        assert limits["Memory"] == pytest.approx(host["memory_mib"] * 1024**2 / 2, rel=0.05)


def test_neither_reaches_the_network_files_or_processes_of_the_other(lab: Lab) -> None:
    networks = container(lab, "serves")["NetworkSettings"]["Networks"]
    (address,) = [one["IPAddress"] for one in networks.values()]
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 8000 2>&1"
    eventually(lambda: "secret" in inside(lab, "serves", ask), READY_S, lambda: inside(lab, "serves", "ps"))
    assert "secret" not in inside(lab, "half", ask)
    assert "httpd" not in inside(lab, "half", "ps; ls / /www 2>&1")
    assert "httpd" in inside(lab, "serves", "ps")


def test_the_variables_of_the_fleet_are_in_its_jobs(lab: Lab) -> None:
    said = "through http://proxy.example.com:3128"
    eventually(
        lambda: said in lab.product.cli("logs", "half").out, READY_S, lambda: lab.product.cli("logs", "half").text
    )


def test_a_third_job_for_that_host_is_told_that_no_part_is_free(lab: Lab) -> None:
    plan = lab.product.cli("plan", "-f", lab.example("half", name="third"))
    assert f"shared-0  {lab.hosts['host-a'].address}  busy: 0 of 2 blocks are free" in plan.out
    done = lab.product.cli("apply", "-y", "-f", lab.example("half", name="third"), deadline_s=READY_S)
    assert done.code == 1 and "shared-0: busy: 0 of 2 blocks are free" in done.err


def test_the_example_that_names_its_host_runs_there(lab: Lab) -> None:
    done = lab.product.cli("apply", "-y", "-f", lab.example("where"), deadline_s=READY_S).ok()
    assert f"I run on {lab.hosts['host-b'].address}" in done.out
