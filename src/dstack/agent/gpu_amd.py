"""AMD accelerators, as amd-smi tells them, or rocm-smi where the other is not there."""

from __future__ import annotations

import glob
import json
import os
from typing import Any, Dict, List, Optional, Tuple

from dstack.agent.gpu_names import short_name
from dstack.agent.gpu_tools import ToolFailed, ask, number, pci, size
from dstack.agentapi.wire import HEALTHY, WARNING, GpuFacts, GpuMetrics

VENDOR = "amd"
PCI_VENDOR = "0x1002"
TOOL = "amd-smi"
OLD_TOOL = "rocm-smi"
OLD_FACTS = ("--showproductname", "--showmeminfo", "vram", "--showuniqueid", "--showbus", "--showdriverversion")
SYS = "/sys"

Json = Dict[str, Any]


async def facts() -> Optional[List[GpuFacts]]:
    """None where neither tool is installed. Raises ToolFailed."""
    static = await ask(TOOL, "static", "--asic", "--bus", "--vram", "--driver", "--json")
    if static is not None:
        found = devices(static, await ask(TOOL, "list", "--json") or "[]")
    else:
        old = await ask(OLD_TOOL, *OLD_FACTS, "--json")
        if old is None:
            return None
        found = old_devices(old)
    for gpu in found:
        gpu.nodes = render_nodes(gpu.bus_id)
    return found


async def metrics(known: List[GpuFacts]) -> List[GpuMetrics]:
    uuids = {gpu.index: gpu.uuid for gpu in known}
    text = await ask(TOOL, "metric", "--usage", "--mem-usage", "--json")
    if text is not None:
        use = usage(text)
    else:
        use = old_usage(await ask(OLD_TOOL, "--showuse", "--showmeminfo", "vram", "--json") or "{}")
    return [GpuMetrics(uuids[index], used, load) for index, (used, load) in use.items() if index in uuids]


async def health(known: List[GpuFacts], kernel_log: str) -> Dict[str, Tuple[str, str]]:
    """By uuid; one that the tool does not name any more is left out. The older tool only tells who is there."""
    text = await ask(TOOL, "metric", "--ecc", "--power", "--json")
    if text is not None:
        judged = judge(text)
    else:
        judged = {index: (HEALTHY, "") for index in old_usage(await ask(OLD_TOOL, "--showuse", "--json") or "{}")}
    return {gpu.uuid: judged[gpu.index] for gpu in known if gpu.index in judged}


def entries(text: str) -> List[Json]:
    """The list that amd-smi prints; newer ones wrap it, older ones print a lone object for a lone GPU."""
    data = _read(text, TOOL)
    if isinstance(data, dict):
        data = data.get("gpu_data", [data])
    return [one for one in data if isinstance(one, dict) and "gpu" in one]


def devices(static: str, listing: str) -> List[GpuFacts]:
    uuids = {int(number(one["gpu"])): _serial(one.get("uuid")) for one in entries(listing)}
    found = []
    for one in entries(static):
        asic, index = _part(one, "asic"), int(number(one["gpu"]))
        product = str(asic.get("market_name") or "")
        bus_id = pci(str(_part(one, "bus").get("bdf") or ""))
        found.append(
            GpuFacts(
                vendor=VENDOR,
                name=short_name(VENDOR, product),
                memory_bytes=size(_part(one, "vram").get("size")),
                uuid=uuids.get(index) or _serial(asic.get("asic_serial")) or bus_id,
                index=index,
                product=product,
                driver=str(_part(one, "driver").get("version") or ""),
                bus_id=bus_id,
            )
        )
    return found


def old_devices(text: str) -> List[GpuFacts]:
    """Of rocm-smi; the keys' capitals changed between its versions."""
    data = _read(text, OLD_TOOL)
    driver = str(_lower(data.get("system") or {}).get("driver version") or "")
    found = []
    for index, card in _cards(data):
        product = str(card.get("card series") or card.get("card model") or card.get("device name") or "")
        bus_id = pci(str(card.get("pci bus") or ""))
        found.append(
            GpuFacts(
                vendor=VENDOR,
                name=short_name(VENDOR, product),
                memory_bytes=int(number(card.get("vram total memory (b)"))),
                uuid=_serial(card.get("unique id")) or bus_id or "amd-%d" % index,
                index=index,
                product=product,
                driver=driver,
                bus_id=bus_id,
            )
        )
    return found


def usage(text: str) -> Dict[int, Tuple[int, int]]:
    """(bytes of memory used, load in percent) by index."""
    return {
        int(number(one["gpu"])): (
            size(_part(one, "mem_usage").get("used_vram")),
            int(number(_part(one, "usage").get("gfx_activity"))),
        )
        for one in entries(text)
    }


def old_usage(text: str) -> Dict[int, Tuple[int, int]]:
    return {
        index: (int(number(card.get("vram total used memory (b)"))), int(number(card.get("gpu use (%)"))))
        for index, card in _cards(_read(text, OLD_TOOL))
    }


def judge(text: str) -> Dict[int, Tuple[str, str]]:
    found = {}
    for one in entries(text):
        warnings = []
        errors = int(number(_part(one, "ecc").get("total_uncorrectable_count")))
        if errors:
            warnings.append("%d uncorrected memory error%s since the driver was loaded" % (errors, "s"[: errors != 1]))
        if str(_part(one, "power").get("throttle_status")).upper() == "THROTTLED":
            warnings.append("slowed down by heat or power")
        found[int(number(one["gpu"]))] = (WARNING if warnings else HEALTHY, "; ".join(warnings))
    return found


def render_nodes(bus_id: str, sys: str = SYS) -> List[str]:
    """`/dev/dri/renderD128` of a PCI address: what the compute driver needs beside /dev/kfd."""
    found = sorted(glob.glob(os.path.join(sys, "bus/pci/devices", bus_id, "drm/renderD*"))) if bus_id else []
    return ["/dev/dri/" + os.path.basename(path) for path in found]


def _cards(data: Json) -> List[Tuple[int, Json]]:
    names = [name for name in data if name.startswith("card") and name[4:].isdigit()]
    return [(int(name[4:]), _lower(data[name])) for name in sorted(names, key=lambda name: int(name[4:]))]


def _lower(data: Json) -> Json:
    return {key.lower(): value for key, value in data.items()}


def _part(one: Json, name: str) -> Json:
    part = one.get(name)
    return part if isinstance(part, dict) else {}  # "N/A" where the driver does not know


def _serial(value: Any) -> str:
    text = str(value or "").strip()
    return "" if text.upper() == "N/A" else text


def _read(text: str, tool: str) -> Any:
    try:
        return json.loads(text[min((text.find(c) for c in "[{" if c in text), default=0) :])
    except ValueError:
        raise ToolFailed("%s prints what is no JSON" % tool) from None
