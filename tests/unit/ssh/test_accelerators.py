"""Drivers and container runtimes, told from what the vendors' tools print: fit, missing, too old."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dstack.ssh.accelerators import accelerator_findings
from dstack.ssh.look import SCRIPT, parse
from unit.ssh.test_look import look

# Forms of NVIDIA's documentation and drivers' packages; the columns' widths differ between releases.
NVIDIA_SMI = """\
Mon Feb  3 10:00:00 2025
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.90.07              Driver Version: 550.90.07      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
"""
NVIDIA_SMI_BROKEN = """\
NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver
is installed and running.
"""
NVIDIA_CTK = "NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80a9b9d0db00d9b1d73c0128c8962c55f4d\n"


def with_tools(folder: Path, **printed: str) -> str:
    """What the look says on a machine whose tools print this."""
    for name, text in printed.items():
        (folder / f"{name}.txt").write_text(text)
        tool = folder / name.replace("_", "-")
        tool.write_text(f"#!/bin/sh\ncat '{folder}/{name}.txt'\n")
        tool.chmod(0o755)
    path = f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(["sh", "-s"], input=SCRIPT, capture_output=True, text=True, timeout=60, env={"PATH": path})
    return done.stdout


def told(*lines: str) -> list[tuple[str, str, str]]:
    return [(f.check, f.state, f.message) for f in accelerator_findings(look(*lines))]


def test_a_host_without_accelerators_has_no_such_findings() -> None:
    assert told("uid 0") == []


def test_nvidias_driver_cuda_and_toolkit_are_read_from_their_tools(tmp_path: Path) -> None:
    seen = parse(with_tools(tmp_path, nvidia_smi=NVIDIA_SMI, nvidia_ctk=NVIDIA_CTK))
    assert (seen.get("nvidia_driver"), seen.get("nvidia_cuda")) == ("550.90.07", "12.4")
    assert "1.17.8" in seen.get("nvidia_ctk")


def test_an_nvidia_driver_that_does_not_answer_is_told_in_its_own_words(tmp_path: Path) -> None:
    seen = parse(with_tools(tmp_path, nvidia_smi=NVIDIA_SMI_BROKEN))
    assert not seen.has("nvidia_driver")
    assert "couldn't communicate with the NVIDIA driver" in seen.get("nvidia_error")


def test_gaudis_driver_is_read_from_its_tool(tmp_path: Path) -> None:
    assert parse(with_tools(tmp_path, hl_smi="1.20.0-9f3e6c5\n")).get("gaudi_driver") == "1.20.0-9f3e6c5"
    assert parse(with_tools(tmp_path, hl_smi="hl-smi: command failed\n")).get("gaudi_error") == "hl-smi: command failed"


H100 = ("pci 0x10de 0x030200", "nvidia_smi yes", "nvidia_driver 550.90.07", "nvidia_cuda 12.4")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            (*H100, "nvidia_ctk NVIDIA Container Toolkit CLI version 1.17.8", "docker_runtimes nvidia runc"),
            [
                ("driver", "ok", "NVIDIA driver 550.90.07, CUDA 12.4"),
                ("container-runtime", "ok", "NVIDIA Container Toolkit 1.17.8"),
            ],
        ),
        (
            H100,
            [
                ("driver", "ok", "NVIDIA driver 550.90.07, CUDA 12.4"),
                ("container-runtime", "failed", "the NVIDIA Container Toolkit is missing"),
            ],
        ),
        (
            ("pci 0x10de 0x030200",),
            [("driver", "failed", "there is an NVIDIA accelerator, but no nvidia-smi: its driver is missing")],
        ),
        (
            (
                "nvidia_smi yes",
                "nvidia_driver 470.82.01",
                "nvidia_cuda 11.4",
                "nvidia_ctk 1.17.8",
                "nvidia_cdi /etc/cdi/nvidia.yaml",
            ),
            [
                ("driver", "failed", "NVIDIA driver 470.82.01 is for CUDA 11.4; 12.1 or newer is needed"),
                ("container-runtime", "ok", "NVIDIA Container Toolkit 1.17.8"),
            ],
        ),
        (
            ("pci 0x1002 0x120000", "amd_module yes", "amd_kfd yes", "amd_driver 6.12.12", "amd_smi AMDSMI Tool: 25.3"),
            [("driver", "ok", "AMDGPU-DKMS 6.12.12")],
        ),
        (
            ("pci 0x1002 0x120000", "amd_module yes", "amd_kfd yes", "rocm_smi yes"),
            [("driver", "warning", "the kernel's own amdgpu driver is used, not AMDGPU-DKMS")],
        ),
        (
            ("pci 0x1da3 0x120000", "gaudi_driver 1.20.0", "docker_runtimes runc"),
            [
                ("driver", "ok", "Gaudi driver 1.20.0"),
                ("container-runtime", "failed", "the Habana Container Runtime is not registered with Docker"),
            ],
        ),
        (
            (
                "pci 0x1e52 0x120000",
                "tenstorrent_device yes",
                "tenstorrent_driver 1.34",
                "tt_smi yes",
                "hugepages_1g 0",
            ),
            [
                ("driver", "ok", "tt-kmd 1.34"),
                ("hugepages", "failed", "there are no 1 GB HugePages at /dev/hugepages-1G"),
            ],
        ),
        (
            (
                "tenstorrent_device yes",
                "tenstorrent_driver 1.34",
                "tt_smi yes",
                "hugepages_1g 4",
                "hugepages_mounted yes",
            ),
            [("driver", "ok", "tt-kmd 1.34"), ("hugepages", "ok", "4 of 1 GB")],
        ),
    ],
)
def test_each_vendors_driver_and_runtime_are_judged(
    lines: tuple[str, ...], expected: list[tuple[str, str, str]]
) -> None:
    assert told(*lines) == expected


def test_every_failure_says_what_mends_it() -> None:
    for lines in (
        ("pci 0x10de 0x030200",),
        ("pci 0x1002 0x120000", "amd_kfd yes"),
        ("pci 0x1da3 0x120000",),
        ("pci 0x1e52 0x120000",),
    ):
        found = accelerator_findings(look(*lines))
        assert found and all(f.remedy for f in found if f.state == "failed")
