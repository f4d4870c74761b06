"""Accelerators whose tool does not answer: the host has failed where they are built in, and works on where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.agent.gpu_tools import in_the_machine
from dstack.agent.gpus import Gpus
from dstack.agentapi.wire import FAILURE, HEALTHY, HostHealth
from support.simulated_tools import GPU_0, nvidia_smi

LOST = "Unable to determine the device handle for GPU0000:2A:00.0: GPU is lost.  Reboot the system to recover this GPU"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A simulated nvidia-smi that finds two GPUs, alone on PATH."""
    folder = nvidia_smi(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def machine(folder: Path, *devices: tuple[str, str]) -> str:
    """A /sys with PCI devices as (vendor, class)."""
    for number, (vendor, kind) in enumerate(devices):
        path = folder / "sys" / "bus" / "pci" / "devices" / f"0000:0{number}:00.0"
        path.mkdir(parents=True)
        (path / "vendor").write_text(f"{vendor}\n")
        (path / "class").write_text(f"{kind}\n")
    return str(folder / "sys")


def fails(tools: Path, words: str) -> None:
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\necho '{words}'\nexit 15\n")


def of(tmp_path: Path, *devices: tuple[str, str]) -> Gpus:
    return Gpus(kernel_log=str(tmp_path / "none"), sys=machine(tmp_path, *devices))


async def test_a_tool_that_fails_from_the_start_is_a_failure_where_its_accelerators_are_built_in(
    tools: Path, tmp_path: Path
) -> None:
    fails(tools, LOST)
    gpus = of(tmp_path, ("0x10de", "0x030200"))
    assert await gpus.facts() == []
    assert await gpus.health() == HostHealth(FAILURE, f"nvidia-smi fails: {LOST}")


async def test_a_tool_of_an_accelerator_that_is_not_there_is_told_and_no_failure(tools: Path, tmp_path: Path) -> None:
    fails(tools, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver")
    gpus = of(tmp_path, ("0x10de", "0x068000"), ("0x8086", "0x030000"))  # an NVSwitch, and Intel's graphics
    assert await gpus.health() == HostHealth()
    assert [text.partition(":")[0] for text in gpus.findings] == ["nvidia-smi fails"]


async def test_a_gpu_that_the_tool_names_no_more_has_failed_and_the_other_has_not(tools: Path, tmp_path: Path) -> None:
    gpus = of(tmp_path, ("0x10de", "0x030200"))
    assert len(await gpus.facts()) == 2
    (tools / "health").write_text("00000000:18:00.0, 34, 0, No, No, [N/A], Not Active\n")
    assert await gpus.health() == HostHealth(FAILURE, "GPU 1: it is not there any more")
    assert {gpu.uuid: gpu.health for gpu in await gpus.facts()}[GPU_0] == HEALTHY


async def test_a_tool_that_fails_later_on_is_told_once(tools: Path, tmp_path: Path) -> None:
    gpus = of(tmp_path, ("0x10de", "0x030200"))
    await gpus.facts()
    fails(tools, LOST)
    assert await gpus.health() == HostHealth(FAILURE, f"nvidia-smi fails: {LOST}")
    assert len(await gpus.facts()) == 2  # jobs on the others go on


async def test_tools_are_asked_in_a_language_that_is_understood(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    (tools / "nvidia-smi").write_text('#!/bin/sh\n[ "$LC_ALL" = C ] && exec cat "$(dirname "$0")/facts"\nexit 1\n')
    assert len(await of(tmp_path).facts()) == 2


def test_controllers_and_screens_of_others_are_no_accelerators(tmp_path: Path) -> None:
    sys = machine(tmp_path, ("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x1002", "0x030000"))
    assert (in_the_machine("0x10de", sys), in_the_machine("0x1002", sys), in_the_machine("0x1da3", sys)) == (1, 1, 0)
