"""Which accelerators a task gets, and how its container or process is told."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from dstack.agent.docker_spec import container_body
from dstack.agent.gpu_options import knows_cdi, of_container, of_process
from dstack.agent.leases import ALL, Leases, choose
from dstack.agent.machine import Ending, TaskFailed, new_task
from dstack.agentapi.wire import CREATING, FAILURE, GpuFacts, TaskSpec

RUNTIMES = {"Runtimes": {"nvidia": {}, "runc": {}}}


def gpus(count: int, vendor: str = "nvidia", **fields) -> list[GpuFacts]:
    return [GpuFacts(vendor=vendor, uuid=f"GPU-{n}", index=n, **fields) for n in range(count)]


def indices(chosen: list[GpuFacts]) -> list[int]:
    return [gpu.index for gpu in chosen]


def test_the_lowest_free_numbers_are_leased():
    assert indices(choose(gpus(4), {"GPU-0"}, 2)) == [1, 2]


def test_devices_side_by_side_are_preferred():
    assert indices(choose(gpus(8), {"GPU-1", "GPU-3"}, 3)) == [4, 5, 6]
    assert indices(choose(gpus(4), {"GPU-1"}, 3)) == [0, 2, 3]


def test_devices_that_failed_are_not_leased():
    built_in = gpus(3)
    built_in[0].health = FAILURE
    assert indices(choose(built_in, set(), 2)) == [1, 2]


def test_too_few_free_devices_are_refused_with_the_numbers():
    built_in = gpus(4)
    built_in[3].health = FAILURE
    with pytest.raises(TaskFailed) as refused:
        choose(built_in, {"GPU-0", "GPU-1"}, 2)
    assert refused.value.reason == "gpus_taken"
    assert str(refused.value) == (
        "2 accelerators are needed, 1 of 4 free (2 are leased to other tasks, 1 failed its health check)"
    )


def test_all_of_a_host_are_not_given_while_one_is_leased():
    assert len(choose(gpus(4), set(), ALL)) == 4
    assert choose([], set(), ALL) == []
    with pytest.raises(TaskFailed, match="4 accelerators are needed, 3 of 4 free"):
        choose(gpus(4), {"GPU-2"}, ALL)


async def test_two_tasks_that_start_at_once_get_different_devices_and_an_ended_one_gives_its_back(tmp_path):
    async def facts():
        await asyncio.sleep(0)
        return gpus(2)

    tasks = [new_task(TaskSpec(id=name, gpus=1), str(tmp_path), "boot") for name in "abc"]
    stored: list[str] = []
    leases = Leases(facts)

    async def take(task):
        await leases.take(task, lambda: tasks, lambda t: stored.append(t.id))

    await asyncio.gather(take(tasks[0]), take(tasks[1]))
    assert sorted(tasks[0].report.gpus + tasks[1].report.gpus) == ["GPU-0", "GPU-1"]
    assert sorted(stored) == ["a", "b"]
    with pytest.raises(TaskFailed):
        await take(tasks[2])
    tasks[0].move(CREATING)
    tasks[0].end(Ending(0))
    await take(tasks[2])
    assert tasks[2].report.gpus == tasks[0].report.gpus


def test_nvidia_gpus_are_requested_by_uuid_and_no_others():
    built_in = gpus(4)
    options = of_container(built_in[1:3], built_in, RUNTIMES)
    assert options.host_config == {
        "DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]}]
    }
    assert options.env == {"NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2"}


def test_a_job_without_a_lease_sees_no_gpu_even_where_its_image_asks_for_all():
    options = of_container([], gpus(2), RUNTIMES)
    body = container_body(TaskSpec(id="t", env={"NVIDIA_VISIBLE_DEVICES": "all"}), "/s", "/", True, [options])
    assert "NVIDIA_VISIBLE_DEVICES=void" in body["Env"] and "DeviceRequests" not in body["HostConfig"]


def test_an_engine_with_cdi_and_without_nvidias_runtime_is_asked_by_cdi_names(tmp_path):
    (tmp_path / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
    engine = {"Runtimes": {"runc": {}}, "CDISpecDirs": [str(tmp_path)]}
    assert knows_cdi(engine) and not knows_cdi({"CDISpecDirs": [str(tmp_path / "none")]})
    options = of_container(gpus(1), gpus(1), engine)
    assert options.host_config["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-0"]}]


def test_amd_gpus_are_their_render_nodes_beside_the_compute_node():
    built_in = gpus(2, "amd")
    for n, gpu in enumerate(built_in):
        gpu.nodes = [f"/dev/dri/renderD{128 + n}"]
    config = of_container(built_in[1:], built_in, {}).host_config
    assert [d["PathOnHost"] for d in config["Devices"]] == ["/dev/kfd", "/dev/dri/renderD129"]
    assert "Privileged" not in config


def test_the_groups_of_device_nodes_are_given_by_number(tmp_path):
    node = tmp_path / "renderD128"
    node.touch()
    gid = os.getgid() or 4242
    os.chown(node, -1, gid)
    gpu = GpuFacts(vendor="amd", uuid="a", nodes=[str(node)])
    assert of_container([gpu], [gpu], {}).host_config["GroupAdd"] == [str(gid)]


def test_gaudi_accelerators_come_through_their_runtime():
    options = of_container(gpus(8, "intel")[2:4], gpus(8, "intel"), {})
    assert options.host_config["Runtime"] == "habana" and options.env["HABANA_VISIBLE_DEVICES"] == "2,3"


def test_tpu_chips_bring_locked_memory_and_only_all_older_ones_bring_privileges():
    vfio = [GpuFacts(vendor="google", uuid=f"t{n}", index=n, nodes=[f"/dev/vfio/{n}"]) for n in range(2)]
    part = of_container(vfio[:1], vfio, {})
    assert [d["PathOnHost"] for d in part.host_config["Devices"]] == ["/dev/vfio/0", "/dev/vfio/vfio"]
    assert part.host_config["Ulimits"][0]["Name"] == "memlock" and part.env["TPU_VISIBLE_CHIPS"] == "0"
    older = [GpuFacts(vendor="google", uuid=f"t{n}", index=n, nodes=[f"/dev/accel{n}"]) for n in range(2)]
    assert of_container(older, older, {}).host_config["Privileged"] is True
    assert "Privileged" not in of_container(older[:1], older, {}).host_config


def test_a_tenstorrent_board_is_its_node():
    boards = [GpuFacts(vendor="tenstorrent", uuid=f"b{n}", index=n, nodes=[f"/dev/tenstorrent/{n}"]) for n in range(2)]
    devices = of_container(boards[1:], boards, {}).host_config["Devices"]
    assert devices == [
        {"PathOnHost": "/dev/tenstorrent/1", "PathInContainer": "/dev/tenstorrent/1", "CgroupPermissions": "rwm"}
    ]


@pytest.mark.parametrize(
    ("vendor", "variables"),
    [
        ("nvidia", {"CUDA_VISIBLE_DEVICES": "GPU-2,GPU-3"}),
        ("amd", {"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "0,1"}),
        ("intel", {"HABANA_VISIBLE_DEVICES": "2,3", "HABANA_VISIBLE_MODULES": "2,3"}),
        ("google", {"TPU_VISIBLE_CHIPS": "2,3"}),
        ("tenstorrent", {"TT_VISIBLE_DEVICES": "2,3"}),
    ],
)
def test_processes_are_told_their_devices_by_the_vendors_variable(vendor, variables):
    built_in = gpus(4, vendor)
    assert of_process(built_in[2:], built_in) == variables
    assert set(of_process([], built_in).values()) == {""}


def host_config(network: str, dev: Path) -> dict[str, Any]:
    return container_body(TaskSpec(id="t", network=network), "/s", "/", True, dev=str(dev))["HostConfig"]


def test_a_job_with_the_hosts_network_has_the_nodes_of_its_infiniband_and_may_lock_memory(tmp_path):
    folder = tmp_path / "infiniband"
    folder.mkdir()
    for name in ("uverbs1", "uverbs0", "rdma_cm", "umad0"):
        (folder / name).touch()
    config = host_config("host", tmp_path)
    names = ["rdma_cm", "umad0", "uverbs0", "uverbs1"]
    assert config["Devices"] == [
        {"PathOnHost": str(folder / n), "PathInContainer": str(folder / n), "CgroupPermissions": "rwm"} for n in names
    ]
    assert config["CapAdd"] == ["IPC_LOCK"] and config["NetworkMode"] == "host"
    assert config["Ulimits"] == [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    alone = host_config("bridge", tmp_path)
    assert not {"Devices", "CapAdd", "Ulimits"} & alone.keys()


def test_a_host_without_infiniband_changes_nothing(tmp_path):
    assert host_config("host", tmp_path) == host_config("host", tmp_path / "none")
    assert not {"Devices", "CapAdd", "Ulimits"} & host_config("host", tmp_path).keys()
