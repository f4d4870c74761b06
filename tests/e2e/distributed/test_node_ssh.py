"""Nodes reach each other by plain `ssh`, with keys that no other run's nodes have, and MPI by that."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.distributed.conftest import NODES, Cluster
from support.product import eventually

pytestmark = [pytest.mark.root, pytest.mark.docker]
READY_S = 60.0
# Each node asks all; node 0 goes when the other has asked, too.
ENTER = """\
  - |
    for ip in $DSTACK_NODES_IPS; do
      ssh $ip 'id -u; hostname; echo "rank $DSTACK_NODE_RANK"; exit 7' || echo "code $?"
    done
  - touch /tmp/asked
  - |
    if [ $DSTACK_NODE_RANK = 0 ]; then
      for ip in $DSTACK_NODES_IPS; do until ssh $ip ls /tmp/asked; do sleep 0.2; done; done
    else
      sleep 1000
    fi
"""
SHOW_KEY = ["cat ~/.ssh/dstack_job", "cat ~/.ssh/known_hosts", "echo shown"]


class Shown(NamedTuple):
    """What a node printed; empty until it has."""

    key: str = ""
    known_hosts: str = ""


class Pair(NamedTuple):
    """Of a run that is over, and of one whose nodes run."""

    ended: Shown
    running: Shown


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> Iterator[Pair]:
    file = cluster.write("first", f"nodes: 2\ncommands: {json.dumps(SHOW_KEY)}")
    cluster.product.cli("apply", "-y", "-f", file, deadline_s=READY_S).ok()
    commands = json.dumps([*SHOW_KEY, "sleep 1000"])
    file = cluster.write("second", f"nodes: 2\nstop_duration: 1s\ncommands: {commands}")
    cluster.product.cli("apply", "-y", "-d", "-f", file).ok()
    cluster.product.wait_status("second", "running", deadline_s=READY_S)
    for node in (0, 1):
        eventually(lambda n=node: _shown(cluster, "second", n).key, READY_S, lambda: "no key was shown")
    yield Pair(_shown(cluster, "first", 0), _shown(cluster, "second", 0))
    cluster.product.cli("stop", "-y", "--abort", "second").ok()
    cluster.product.wait_status("second", "terminated", deadline_s=READY_S)


def test_the_example_with_mpi_starts_its_program_on_both_nodes(cluster: Cluster) -> None:
    cluster.product.cli("apply", "-y", "-f", cluster.example("mpi"), deadline_s=READY_S).ok()
    assert sorted(cluster.log("mpi", 0).splitlines()[-2:]) == list(NODES)


def test_nodes_enter_each_other_as_the_jobs_user_in_its_environment(cluster: Cluster) -> None:
    text = f"nodes: 2\nuser: worker\nstop_criteria: master-done\nstop_duration: 1s\ncommands:\n{ENTER}"
    cluster.product.cli("apply", "-y", "-f", cluster.write("enter", text), deadline_s=READY_S).ok()
    expected = [line for rank, name in enumerate(NODES) for line in ("1234", name, f"rank {rank}", "code 7")]
    for rank in (0, 1):
        assert cluster.log("enter", rank).splitlines()[:8] == expected


def test_the_key_of_one_run_does_not_open_the_nodes_of_another(cluster: Cluster, pair: Pair, tmp_path: Path) -> None:
    assert pair.running.known_hosts == _shown(cluster, "second", 1).known_hosts != pair.ended.known_hosts
    assert _hostname(cluster, tmp_path, pair.running.key, pair.running).stdout == "host-b\n"
    refused = _hostname(cluster, tmp_path, pair.ended.key, pair.running)
    assert refused.returncode == 255 and "Permission denied" in refused.stderr


def test_nodes_are_entered_again_when_an_agent_died(cluster: Cluster, pair: Pair, tmp_path: Path) -> None:
    cluster.hosts["host-b"].kill_agent()
    assert _hostname(cluster, tmp_path, pair.running.key, pair.running).stdout == "host-b\n"


def test_no_key_of_nodes_is_written_to_a_log(cluster: Cluster) -> None:
    logs = [cluster.product.server_log]
    logs += [cluster.hosts[name].path("/var/lib/dstack/agent/agent.log").read_text() for name in NODES]
    assert all("PRIVATE KEY" not in log for log in logs)


def _shown(cluster: Cluster, run: str, node: int) -> Shown:
    log = cluster.log(run, node)
    end = "-----END OPENSSH PRIVATE KEY-----\n"
    if not log.endswith("shown\n") or end not in log:
        return Shown()
    key, _, known = log.partition(end)
    return Shown(key + end, known.removesuffix("shown\n"))


def _hostname(cluster: Cluster, folder: Path, key: str, of: Shown) -> subprocess.CompletedProcess[str]:
    """`hostname` on node 1, as anybody would ask for it from outside with this key."""
    path, hosts = folder / "key", folder / "known_hosts"
    for file, text in ((path, key), (hosts, of.known_hosts)):
        file.write_text(text)
        file.chmod(0o600)
    options = ["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={hosts}"]
    target = ["-o", "ConnectionAttempts=30", "-p", "10022", f"root@{cluster.hosts['host-b'].address}", "hostname"]
    return subprocess.run(["ssh", *options, "-i", path, *target], capture_output=True, text=True, timeout=60)
