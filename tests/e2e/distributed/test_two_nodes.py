"""Tasks on two hosts: placed together or not at all, knowing each other, in order, ended together."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote

import pytest

from e2e.distributed.conftest import NODES, Cluster
from support.docker_engine import call
from support.product import eventually

pytestmark = [pytest.mark.root, pytest.mark.docker]
READY_S = 60.0
MASTER_ENDS = 29600  # node 0 ends when somebody connects to this port


def test_the_example_of_a_rendezvous_runs_on_two_hosts_that_find_each_other(cluster: Cluster) -> None:
    cluster.product.cli("apply", "-y", "-f", cluster.example("rendezvous"), deadline_s=READY_S).ok()
    for rank in (0, 1):
        expected = [f"rank {rank} of 2: step {step}, sum {3 * step}" for step in (1, 2, 3)]
        assert cluster.log("rendezvous", rank).splitlines() == expected
    merged = cluster.product.cli("logs", "rendezvous", "--all").ok().out.splitlines()
    assert sorted({line.partition("] ")[0] for line in merged}) == ["[job 0", "[job 1"]
    steps = [int(line.partition("step ")[2][0]) for line in merged]
    # Of neighbouring steps, a third of a second apart, either host may be slow to take down the first.
    apart = [step for step in steps if step != 2]
    assert len(steps) == 6 and apart == [1, 1, 3, 3], "a node is ahead of the other in the log"
    hinted = cluster.product.cli("logs", "rendezvous", "--replica", "1").ok()
    assert "--job 1" in hinted.err and "rank 1" in hinted.out


def test_every_node_is_told_who_it_is_and_who_the_others_are(cluster: Cluster) -> None:
    names = ("NODES_IPS", "MASTER_NODE_IP", "NODE_RANK", "NODES_NUM", "GPUS_PER_NODE", "GPUS_NUM")
    commands = [f'echo "$DSTACK_{name}"' for name in names]
    commands += ["cat $DSTACK_MPI_HOSTFILE", "hostname"]
    file = cluster.write("told", f"nodes: 2\ncommands: {json.dumps(commands)}")
    cluster.product.cli("apply", "-y", "-f", file, deadline_s=READY_S).ok()
    first, second = (cluster.hosts[name].address for name in NODES)
    for rank in (0, 1):
        said = cluster.log("told", rank).splitlines()
        assert said == [first, second, first, str(rank), "2", "0", "0", first, second, NODES[rank]]


def test_the_example_with_groups_tells_one_group_the_address_of_another(cluster: Cluster) -> None:
    cluster.product.cli("apply", "-y", "-f", cluster.example("groups"), deadline_s=READY_S).ok()
    assert cluster.log("groups", 1) == "work to do\n"
    assert cluster.log("groups", 0) == "fetched by a worker\n"


def test_a_task_with_too_few_free_hosts_gets_none_and_all_when_there_are_enough(cluster: Cluster) -> None:
    plan = cluster.product.cli("plan", "-f", cluster.write("three", "nodes: 3\ncommands: ['true']"))
    assert "3 nodes are needed at once" in plan.text and "can have 2" in plan.text
    where = f"instances: [{{hostname: {cluster.hosts['host-b'].address}}}]"
    cluster.product.cli("apply", "-y", "-d", "-f", cluster.write("holds", f"commands: ['sleep 1000']\n{where}")).ok()
    cluster.product.wait_status("holds", "running")
    file = cluster.write("both", "nodes: 2\ncommands: ['echo here']")
    refused = cluster.product.cli("apply", "-y", "-f", file, deadline_s=READY_S)
    assert refused.code == 1 and "2 nodes are needed at once, fleet 'cluster' can have 1" in refused.err
    assert _addresses(cluster, "both") == [None, None]
    cluster.product.cli("stop", "-y", "--abort", "holds").ok()
    cluster.product.wait_status("holds", "terminated", deadline_s=READY_S)
    cluster.product.cli("apply", "-y", "-f", file, deadline_s=READY_S).ok()
    assert _addresses(cluster, "both") == [cluster.hosts[name].address for name in NODES]


def test_workers_start_first_and_all_end_with_node_0_where_that_was_asked_for(cluster: Cluster) -> None:
    text = "nodes: 2\nstartup_order: workers-first\nstop_criteria: master-done\nstop_duration: 1s\ncommands:\n"
    text += f"  - if [ $DSTACK_NODE_RANK = 0 ]; then nc -l -p {MASTER_ENDS} </dev/null; else sleep 1000; fi"
    cluster.product.cli("apply", "-y", "-d", "-f", cluster.write("ordered", text)).ok()
    run = cluster.product.wait_status("ordered", "running", deadline_s=READY_S)
    jobs = sorted(run["jobs"], key=lambda job: job["job_spec"]["job_num"])
    made = [_container(cluster, job["job_submissions"][-1]["id"]) for job in jobs]
    assert made[1]["State"]["StartedAt"] < made[0]["Created"]
    eventually(lambda: _knock(cluster.hosts["host-a"].address), READY_S, lambda: "node 0 does not listen")
    cluster.product.wait_status("ordered", "done", deadline_s=READY_S)
    assert "The master node is done" in cluster.product.cli("why", "ordered").out


def test_a_node_that_fails_ends_the_others_and_is_named(cluster: Cluster) -> None:
    command = "if [ $DSTACK_NODE_RANK = 1 ]; then exit 3; else sleep 1000; fi"
    file = cluster.write("fails", f"nodes: 2\nstop_duration: 1s\ncommands: ['{command}']")
    done = cluster.product.cli("apply", "-y", "-f", file, deadline_s=READY_S)
    assert done.code == 3
    why = cluster.product.cli("why", "fails").out
    assert "Node 1 (fails-1-0) failed: Exited with status 3" in why
    left = [call(cluster.hosts[name].docker_url, "GET", "/containers/json") for name in NODES]
    assert left == [[], []]


def _addresses(cluster: Cluster, run: str) -> list[str | None]:
    """Where its nodes are or were, by their numbers; None for one that had no machine."""
    submissions = [job["job_submissions"][-1] for job in cluster.product.run(run)["jobs"]]
    return [(one["job_provisioning_data"] or {}).get("hostname") for one in submissions]


def _container(cluster: Cluster, job_id: str) -> dict[str, Any]:
    """What the engines know of the job's container, once it runs on a host."""
    wanted = quote(json.dumps({"label": [f"dstack.task={job_id}"]}))
    urls = [cluster.hosts[name].docker_url for name in NODES]

    def found() -> dict[str, Any] | None:
        for url in urls:
            for one in call(url, "GET", f"/containers/json?filters={wanted}"):
                return call(url, "GET", f"/containers/{one['Id']}/json")
        return None

    return eventually(found, READY_S, lambda: f"no host runs a container of {job_id}")


def _knock(address: str) -> bool:
    try:
        with socket.create_connection((address, MASTER_ENDS), 5):
            return True
    except OSError:
        return False
