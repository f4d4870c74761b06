"""What the nodes of one task learn of each other."""

from __future__ import annotations

from pathlib import Path

from dstack.agentapi.wire import NodeSsh, TaskSpec
from dstack.model.instance import HostInfo, InstanceStatus, ProvisioningData
from dstack.server.auth.node_keys import KeyPair, ReplicaKeys
from dstack.server.effects.spec import Node, task_spec
from dstack.server.settings import Settings
from support import builders

GPU = builders.offer("g", gpu="H100", gpus=8, gpu_gb=80)


def gang(count: int = 2, *, runtime: str = "docker", blocks: int = 1, total: int = 1, **fields) -> list[Node]:
    nodes = []
    for job in builders.jobs_of(builders.run("t1", **({"nodes": count} | fields))):
        instance = builders.instance(
            job.job_num,
            offer=GPU if job.job_num else builders.offer(),
            status=InstanceStatus.BUSY,
            total_blocks=total,
            host=HostInfo(runtime=runtime),
            data=ProvisioningData(backend_id="i", hostname=f"1.2.3.{job.job_num}", internal_ip=f"10.0.0.{job.job_num}"),
        )
        nodes.append(Node(job.replace(place=builders.place_on(instance, blocks)), instance))
    return nodes


KEYS = ReplicaKeys(KeyPair("private", "public"), KeyPair("host private", "host public"))


def task(nodes: list[Node], num: int) -> TaskSpec:
    return task_spec(*nodes[num], {}, {}, Settings(Path("/nowhere")), nodes, (), KEYS)


def test_every_node_knows_the_addresses_of_all_and_its_own_place() -> None:
    env = task(gang(), 1).env
    assert env["DSTACK_NODES_IPS"] == "10.0.0.0\n10.0.0.1"
    assert (env["DSTACK_MASTER_NODE_IP"], env["DSTACK_NODE_RANK"], env["DSTACK_NODES_NUM"]) == ("10.0.0.0", "1", "2")
    assert (env["DSTACK_GPUS_PER_NODE"], env["DSTACK_GPUS_NUM"]) == ("8", "8")


def test_the_host_file_of_mpi_has_a_line_for_each_node() -> None:
    assert task(gang(), 0).mpi_hostfile == "10.0.0.0\n10.0.0.1 slots=8\n"


def test_every_node_gets_the_keys_of_its_gang_and_listens_at_its_own_address() -> None:
    ssh = task(gang(), 1).node_ssh
    assert ssh == NodeSsh("private", "public", "host private", "host public", "10.0.0.1", ["10.0.0.0", "10.0.0.1"])


def test_nodes_behind_one_address_and_plain_processes_get_no_keys() -> None:
    first, second = gang()
    assert first.instance.data is not None
    here = Node(second.job, second.instance.replace(data=first.instance.data))
    assert task([first, here], 0).node_ssh is None
    assert task(gang(runtime="process"), 0).node_ssh is None


def test_several_nodes_use_the_network_of_their_hosts_and_one_alone_does_not() -> None:
    assert task(gang(), 0).network == "host"
    assert task(gang(1), 0).network == "bridge"
    assert task(gang(runtime="process"), 0).network == "bridge"


def test_addresses_that_commands_name_are_filled_in_by_group_and_place() -> None:
    commands = [
        "ping ${{ groups[1].nodes[0].IP_ADDRESS }} ${{groups[1].nodes[1].IP_ADDRESS}}",
        "echo $${{ groups[0] }}",
    ]
    groups = [{"commands": commands}, {"nodes": 2, "commands": ["b $${{ groups[0].nodes[0].IP_ADDRESS }}"]}]
    nodes = gang(groups=groups, commands=[], nodes=None)
    assert task(nodes, 0).script == "ping 10.0.0.1 10.0.0.2 && echo ${{ groups[0] }}"
    assert task(nodes, 2).script == "b ${{ groups[0].nodes[0].IP_ADDRESS }}"


def test_a_job_gets_the_accelerators_of_its_blocks_and_all_of_a_whole_machine() -> None:
    assert task(gang(), 1).gpus == -1
    assert task(gang(), 0).gpus == 0
    assert task(gang(blocks=2, total=8), 1).gpus == 2
