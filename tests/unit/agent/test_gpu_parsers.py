"""What vendors' tools print becomes facts, use and health. The data is published output: tools/SOURCES.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.agent import gpu_amd, gpu_gaudi, gpu_nvidia, gpu_tenstorrent, gpu_tpu
from dstack.agent.gpu_names import short_name
from dstack.agent.gpu_tools import ToolFailed, number, pci, size
from dstack.agentapi.wire import FAILURE, HEALTHY, WARNING

TOOLS = Path(__file__).parent / "tools"
MIB, GIB = 1024**2, 1024**3


def read(name: str) -> str:
    return (TOOLS / name).read_text()


def nvidia(text: str, listing: str = ""):
    return gpu_nvidia.devices(gpu_nvidia.table(gpu_nvidia.COLUMNS, text), listing)


def test_nvidia_gpus_have_name_memory_driver_and_address():
    first, second = nvidia(read("nvidia-smi-facts.csv"))
    assert (first.name, first.product, first.memory_bytes) == ("H100", "NVIDIA H100 80GB HBM3", 81559 * MIB)
    assert (first.driver, first.bus_id, first.index) == ("550.90.07", "0000:18:00.0", 0)
    assert (second.uuid, second.index) == ("GPU-8a1b0d3f-1f22-4c0e-9e0f-52c1c6d3e7a2", 1)


def test_lines_that_are_no_rows_are_passed_over():
    assert nvidia("WARNING: infoROM is corrupted at gpu 0000:18:00.0\n" + read("nvidia-smi-facts.csv"))[1].index == 1
    assert nvidia("No devices were found\n") == []


def test_a_gpu_in_mig_mode_is_as_many_as_its_parts():
    parent = "GPU-295b72d2-e23d-baa4-1b87-88bc3b68fd08"
    row = f"0, {parent}, NVIDIA A100 80GB PCIe, 81920, 535.54.03, 00000001:00:00.0, Enabled\n"
    parts = nvidia(row, read("nvidia-smi-L-mig.txt"))
    assert [(p.uuid[:12], p.memory_bytes // GIB, p.name) for p in parts] == [
        ("MIG-c1d3d074", 10, "A100"),
        ("MIG-84e0b369", 20, "A100"),
    ]
    assert {p.bus_id for p in parts} == {"0001:00:00.0"}


def test_a_gpu_that_is_lost_is_no_gpu_and_the_others_are(tmp_path):
    text = read("nvidia-smi-facts.csv") + "2, [GPU is lost], [GPU is lost], [GPU is lost], , 00000000:3B:00.0, [N/A]\n"
    assert [gpu.index for gpu in nvidia(text)] == [0, 1]


@pytest.mark.parametrize("said", ["GPU is lost", "GPU requires reset", "Unknown Error"])
def test_words_in_place_of_values_are_a_failure_of_that_gpu(said):
    row = dict.fromkeys(gpu_nvidia.HEALTH, f"[{said}]") | {"pci.bus_id": "00000000:3B:00.0"}
    assert gpu_nvidia.judge(row, []) == (FAILURE, f"nvidia-smi says: {said}")


def test_values_that_are_not_available_are_no_fault():
    row = dict.fromkeys(gpu_nvidia.HEALTH, "[N/A]") | {"pci.bus_id": "00000000:3B:00.0"}
    assert gpu_nvidia.judge(row, []) == (HEALTHY, "")


def test_a_gpu_without_memory_of_its_own_has_the_machines():
    (gpu,) = nvidia("0, GPU-1, NVIDIA GB10, [N/A], 580.82.09, 0000000F:01:00.0, [N/A]\n")
    assert gpu.memory_bytes > 0 and gpu.name == "GB10" and gpu.bus_id == "000f:01:00.0"


def test_sixteen_gpus_keep_their_numbers_and_addresses():
    row = "{n}, GPU-{n}, NVIDIA H200, 143771, 570.86.15, 00000000:{n:02X}:00.0, Disabled\n"
    found = nvidia("".join(row.format(n=n) for n in range(16)))
    assert [(gpu.index, gpu.bus_id) for gpu in found] == [(n, f"0000:{n:02x}:00.0") for n in range(16)]


def test_nvidia_health_says_what_is_wrong_with_which_gpu():
    rows = gpu_nvidia.table(gpu_nvidia.HEALTH, read("nvidia-smi-health.csv"))
    faults = gpu_nvidia.xids(read("dmesg-xid.txt"))
    found = [gpu_nvidia.judge(row, faults.get(pci(row["pci.bus_id"]), [])) for row in rows]
    assert found == [
        (HEALTHY, ""),
        (
            WARNING,
            "Xid 94: contained memory error; memory is to be remapped at the next reset; "
            "3 uncorrected memory errors since the driver was loaded; slowed down by heat (88 C)",
        ),
        (FAILURE, "memory rows could not be remapped"),
        (FAILURE, "Xid 79: the GPU has fallen off the bus"),
    ]


def test_xids_from_before_the_driver_was_loaded_anew_are_over():
    assert "0000:18:00.0" not in gpu_nvidia.xids(read("dmesg-xid.txt"))


def test_an_xid_that_a_job_causes_itself_says_nothing_about_the_gpu():
    row = gpu_nvidia.table(gpu_nvidia.HEALTH, read("nvidia-smi-health.csv"))[0]
    assert gpu_nvidia.judge(row, [13, 31, 43, 45]) == (HEALTHY, "")


def test_amd_gpus_of_amd_smi_have_name_memory_and_an_identity():
    first, second = gpu_amd.devices(read("amd-smi-static.json"), read("amd-smi-list.json"))
    assert (first.name, first.memory_bytes, first.driver) == ("MI300X", 196592 * MIB, "6.10.5")
    assert (first.uuid, first.bus_id) == ("16ff74a1-0000-1000-801f-0a2b3c4d5e6f", "0000:83:00.0")
    assert (second.uuid, second.driver) == ("0000:c6:00.0", "")


def test_amd_use_and_health_survive_values_that_the_driver_does_not_know():
    assert gpu_amd.usage(read("amd-smi-metric.json")) == {0: (17153 * MIB, 94), 1: (284 * MIB, 0)}
    assert gpu_amd.judge(read("amd-smi-metric.json")) == {
        0: (WARNING, "1 uncorrected memory error since the driver was loaded; slowed down by heat or power"),
        1: (HEALTHY, ""),
    }


def test_amd_gpus_of_rocm_smi_are_read_with_the_keys_of_old_and_new_versions():
    first, second = gpu_amd.old_devices(read("rocm-smi.json"))
    assert (first.name, first.memory_bytes, first.uuid) == ("RX7900XT", 21458059264, "0x2b5b7c3f1c1e2d3a")
    assert (second.name, second.uuid, second.driver) == ("MI250", "0000:c4:00.0", "6.2.4")
    assert gpu_amd.old_usage(read("rocm-smi.json"))[0] == (27856896, 19)


def test_the_render_node_of_an_amd_gpu_is_found_by_its_address(tmp_path):
    (tmp_path / "bus/pci/devices/0000:83:00.0/drm/renderD129").mkdir(parents=True)
    assert gpu_amd.render_nodes("0000:83:00.0", str(tmp_path)) == ["/dev/dri/renderD129"]
    assert gpu_amd.render_nodes("0000:99:00.0", str(tmp_path)) == []


@pytest.mark.parametrize("text", ["", "AMDSMI_STATUS_DRIVER_NOT_LOADED", "{"])
def test_what_is_no_json_is_told_as_a_fault_of_the_tool(text):
    with pytest.raises(ToolFailed, match="no JSON"):
        gpu_amd.entries(text)
    with pytest.raises(ToolFailed, match="no JSON"):
        gpu_tenstorrent.devices(text, {})


def test_gaudi_accelerators_count_by_their_module():
    first, second = gpu_gaudi.devices(gpu_gaudi.table(gpu_gaudi.COLUMNS, read("hl-smi.csv")))
    assert (first.name, first.memory_bytes, first.index) == ("Gaudi2", 98304 * MIB, 3)
    assert (second.bus_id, second.driver, second.index) == ("0000:b3:00.0", "1.20.0-bd4f3f1", 0)


def test_gaudi_heat_and_memory_errors_are_a_warning():
    row = dict(zip(gpu_gaudi.HEALTH, ("u", "2", "1"), strict=True))
    assert gpu_gaudi.judge(row)[0] == WARNING
    assert gpu_gaudi.judge(dict(zip(gpu_gaudi.HEALTH, ("u", "0", "0"), strict=True))) == (HEALTHY, "")


def test_a_tenstorrent_board_of_two_chips_is_one_accelerator():
    board, failed = gpu_tenstorrent.devices(read("tt-smi.json"), {"0000:01:00.0": 1, "0000:04:00.0": 0})
    assert (board.name, board.memory_bytes // GIB, board.nodes) == ("n300", 24, ["/dev/tenstorrent/1"])
    assert (board.driver, board.health) == ("TT-KMD 1.34", HEALTHY)
    assert (failed.index, failed.health, failed.health_message) == (0, FAILURE, "memory did not pass its training")


def test_a_snapshot_that_went_to_a_file_is_read_from_there(tmp_path):
    path = tmp_path / "snapshot.json"
    path.write_text(read("tt-smi.json"))
    assert len(gpu_tenstorrent.devices(f" Saved tt-smi log to: {path}\n", {})) == 2


def test_tpu_chips_are_those_whose_device_node_is_there(tmp_path):
    devices = tmp_path / "sys/bus/pci/devices"
    for address, group in (("0000:00:04.0", "0"), ("0000:00:05.0", "1")):
        (devices / address).mkdir(parents=True)
        (devices / address / "vendor").write_text("0x1ae0\n")
        (devices / address / "device").write_text("0x0063\n")
        (tmp_path / "groups" / group).mkdir(parents=True)
        (devices / address / "iommu_group").symlink_to(tmp_path / "groups" / group)
    (tmp_path / "dev/vfio").mkdir(parents=True)
    (tmp_path / "dev/vfio/1").touch()
    (chip,) = gpu_tpu.devices(str(tmp_path / "sys"), str(tmp_path / "dev"))
    assert (chip.name, chip.memory_bytes // GIB, chip.nodes) == ("v5litepod", 16, ["/dev/vfio/1"])


@pytest.mark.parametrize(
    ("vendor", "product", "name"),
    [
        ("nvidia", "NVIDIA A100-SXM4-80GB", "A100"),
        ("nvidia", "NVIDIA H100 NVL", "H100NVL"),
        ("nvidia", "NVIDIA H200 NVL", "H200NVL"),
        ("nvidia", "Tesla T4", "T4"),
        ("nvidia", "NVIDIA L40S", "L40S"),
        ("nvidia", "NVIDIA RTX A6000", "A6000"),
        ("nvidia", "NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("nvidia", "NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000"),
        ("nvidia", "NVIDIA GeForce RTX 4090", "RTX4090"),
        ("nvidia", "NVIDIA GH200 480GB", "GH200"),
        ("amd", "AMD Instinct MI355X", "MI355X"),
        ("amd", "AMD Radeon PRO W7800", "PROW7800"),
        ("intel", "HL-325L", "Gaudi3"),
        ("tenstorrent", "n300 L", "n300"),
        ("nvidia", "NVIDIA Something New", "Something New"),
    ],
)
def test_product_names_become_those_that_people_write(vendor, product, name):
    assert short_name(vendor, product) == name


def test_numbers_sizes_and_addresses_of_different_tools_are_read_alike():
    assert (number("81559 MiB"), number("[N/A]"), number({"value": "N/A"}), number({"value": 42, "unit": "%"})) == (
        81559,
        0,
        0,
        42,
    )
    assert (size("98304 MiB"), size({"value": 34359738368, "unit": "B"}), size("N/A")) == (98304 * MIB, 32 * GIB, 0)
    assert pci("00000000:2A:00.0") == pci("0000:2a:00.0") == "0000:2a:00.0"
