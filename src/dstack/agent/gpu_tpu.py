"""Google TPU chips: they have no tool on the host; the PCI devices and their nodes tell them."""

from __future__ import annotations

import glob
import os
import re
from typing import Dict, List, Optional, Tuple

from dstack.agent.gpu_tools import pci
from dstack.agentapi.wire import HEALTHY, GpuFacts, GpuMetrics

VENDOR = "google"
PCI_VENDOR = "0x1ae0"
TOOL = "the TPU's device nodes"
SYS, DEV = "/sys", "/dev"
GIB = 1024**3
# By PCI device id: the generation, and GiB of memory of one chip.
CHIPS = {
    "0x0027": ("v3", 32),
    "0x005e": ("v4", 32),
    "0x0062": ("v5p", 95),
    "0x0063": ("v5litepod", 16),
    "0x006f": ("v6e", 32),
    "0x0076": ("v7x", 192),
}


async def facts() -> Optional[List[GpuFacts]]:
    return devices() or None


async def metrics(known: List[GpuFacts]) -> List[GpuMetrics]:
    return []  # only the job's own software can tell


async def health(known: List[GpuFacts], kernel_log: str) -> Dict[str, Tuple[str, str]]:
    return {gpu.uuid: (HEALTHY, "") for gpu in devices()}


def devices(sys: str = SYS, dev: str = DEV) -> List[GpuFacts]:
    """Chips whose node is there: /dev/accelN of the older drivers, /dev/vfio/N (their IOMMU group) of the newer."""
    found: List[GpuFacts] = []
    for path in sorted(glob.glob(os.path.join(sys, "bus/pci/devices/*"))):
        kind = CHIPS.get(_read(os.path.join(path, "device")))
        if kind is None or _read(os.path.join(path, "vendor")) != PCI_VENDOR:
            continue
        bus_id = pci(os.path.basename(path))
        nodes = _nodes(path, dev)
        if not nodes:
            continue  # of the host's own, or its driver is missing
        found.append(
            GpuFacts(
                vendor=VENDOR,
                name=kind[0],
                memory_bytes=kind[1] * GIB,
                uuid="tpu-" + bus_id,
                index=len(found),
                product="TPU " + kind[0],
                bus_id=bus_id,
                nodes=nodes,
            )
        )
    return found


def _nodes(path: str, dev: str) -> List[str]:
    for accel in glob.glob(os.path.join(path, "accel/accel*")):
        if re.search(r"accel\d+$", accel) and os.path.exists(os.path.join(dev, os.path.basename(accel))):
            return ["/dev/" + os.path.basename(accel)]
    group = os.path.basename(os.path.realpath(os.path.join(path, "iommu_group")))
    if group.isdigit() and os.path.exists(os.path.join(dev, "vfio", group)):
        return ["/dev/vfio/" + group]
    return []


def _read(path: str) -> str:
    try:
        with open(path) as f:
            return f.read().strip().lower()
    except OSError:
        return ""
