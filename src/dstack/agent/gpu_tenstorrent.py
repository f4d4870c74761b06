"""Tenstorrent accelerators, as tt-smi's snapshot tells them: a board is one, whatever number of chips is on it."""

from __future__ import annotations

import glob
import json
import os
import re
from typing import Any, Dict, List, Optional, Tuple

from dstack.agent.gpu_names import short_name
from dstack.agent.gpu_tools import ToolFailed, ask, pci
from dstack.agentapi.wire import FAILURE, HEALTHY, GpuFacts, GpuMetrics

VENDOR = "tenstorrent"
PCI_VENDOR = "0x1e52"
TOOL = "tt-smi"
SYS = "/sys"
GIB = 1024**3
# Memory of one chip; the snapshot does not tell.
CHIP_GIB = {"e75": 8, "e150": 8, "n150": 12, "n300": 12, "p100": 28, "p100a": 28, "p150": 32, "p150a": 32, "p150b": 32}
CHIP_GIB.update({"p300": 32, "p300a": 32, "p300b": 32, "p300c": 32})
OTHER_GIB = 12

Json = Dict[str, Any]


async def facts() -> Optional[List[GpuFacts]]:
    """None where the tool is not installed. Raises ToolFailed."""
    text = await _snapshot()
    return None if text is None else devices(text, node_numbers())


async def metrics(known: List[GpuFacts]) -> List[GpuMetrics]:
    return []  # the snapshot tells heat and power, neither load nor memory


async def health(known: List[GpuFacts], kernel_log: str) -> Dict[str, Tuple[str, str]]:
    """By uuid."""
    return {gpu.uuid: (gpu.health, gpu.health_message) for gpu in await facts() or []}


def devices(text: str, numbers: Dict[str, int]) -> List[GpuFacts]:
    """`numbers`: /dev/tenstorrent/N by PCI address; where it does not say, devices count in the snapshot's order."""
    snapshot = _read(text)
    driver = str((snapshot.get("host_info") or {}).get("Driver") or "")
    chips = [chip for chip in snapshot.get("device_info") or [] if isinstance(chip, dict)]
    found: List[GpuFacts] = []
    for chip in chips:
        board = chip.get("board_info") or {}
        bus_id = str(board.get("bus_id") or "")
        if ":" not in bus_id:
            continue  # the second chip of a board is reached through the first
        bus_id = pci(bus_id)
        number = numbers.get(bus_id, len(found))
        product = str(board.get("board_type") or "")
        name = short_name(VENDOR, product)
        gpu = GpuFacts(
            vendor=VENDOR,
            name=name,
            memory_bytes=_chips_on(board, chips) * CHIP_GIB.get(name, OTHER_GIB) * GIB,
            uuid="tt-" + bus_id,
            index=number,
            product=product,
            driver=driver,
            bus_id=bus_id,
            nodes=["/dev/tenstorrent/%d" % number],
        )
        gpu.health, gpu.health_message = judge(chip)
        found.append(gpu)
    return found


def judge(chip: Json) -> Tuple[str, str]:
    if (chip.get("board_info") or {}).get("dram_status") is False:
        return FAILURE, "memory did not pass its training"
    if not chip.get("telemetry"):
        return FAILURE, "the chip does not answer"
    return HEALTHY, ""


def node_numbers(sys: str = SYS) -> Dict[str, int]:
    """/dev/tenstorrent/N by PCI address, as the kernel's driver counts."""
    found = {}
    for path in glob.glob(os.path.join(sys, "class/tenstorrent/tenstorrent!*")):
        match = re.search(r"!(\d+)$", path)
        if match:
            found[pci(os.path.basename(os.path.realpath(os.path.join(path, "device"))))] = int(match.group(1))
    return found


async def _snapshot() -> Optional[str]:
    try:
        return await ask(TOOL, "-s", "--snapshot_no_tty")
    except ToolFailed as e:
        if "unrecognized arguments" not in str(e) and "usage" not in str(e):
            raise
    return await ask(TOOL, "-s")


def _chips_on(board: Json, chips: List[Json]) -> int:
    board_id = board.get("board_id")
    if not board_id or board_id == "N/A":
        return 1
    others = [(chip.get("board_info") or {}) for chip in chips]
    remote = [b for b in others if b.get("board_id") == board_id and ":" not in str(b.get("bus_id") or "")]
    return 1 + len(remote)


def _read(text: str) -> Json:
    saved = re.search(r"Saved tt-smi log to: (\S+)", text)
    if saved and "{" not in text:
        try:
            with open(os.path.expanduser(saved.group(1))) as f:
                text = f.read()
        except OSError as e:
            raise ToolFailed("the snapshot of tt-smi cannot be read: %s" % e.strerror) from None
    try:
        return json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        raise ToolFailed("tt-smi prints what is no JSON") from None
