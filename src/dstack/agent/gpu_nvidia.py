"""NVIDIA accelerators, as nvidia-smi and the kernel's log tell them."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional, Tuple

from dstack.agent.gpu_names import short_name
from dstack.agent.gpu_tools import ToolFailed, ask, number, pci
from dstack.agentapi.wire import FAILURE, HEALTHY, WARNING, GpuFacts, GpuMetrics

VENDOR = "nvidia"
PCI_VENDOR = "0x10de"
TOOL = "nvidia-smi"
MIB = 1024 * 1024
COLUMNS = ("index", "uuid", "name", "memory.total", "driver_version", "pci.bus_id", "mig.mode.current")
USE = ("uuid", "memory.used", "utilization.gpu")
HEALTH = (
    "pci.bus_id",
    "temperature.gpu",
    "ecc.errors.uncorrected.volatile.total",
    "remapped_rows.pending",
    "remapped_rows.failure",
    "retired_pages.pending",
    "clocks_throttle_reasons.hw_thermal_slowdown",
)
UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field')
MIG = re.compile(r"^\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")
PARENT = re.compile(r"^GPU \d+: .*\(UUID: (GPU-[^)]+)\)")
XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+),? ?(.*)")
LOST = re.compile(r"GPU is lost|requires reset|Unknown Error|^ERR!$", re.IGNORECASE)
DRIVER_LOADED = "NVRM: loading NVIDIA"
# NVIDIA's catalogue of Xid errors: those after which the device cannot be trusted, and those that somebody should see.
# What jobs do to themselves (13, 31, 43, 45, ...) says nothing about the device.
FATAL_XIDS = {
    46: "the GPU stopped processing",
    48: "double-bit memory error",
    64: "row remapping failed",
    79: "the GPU has fallen off the bus",
    95: "uncontained memory error",
    119: "the GPU's own processor does not answer",
    120: "the GPU's own processor failed",
    140: "unrecovered memory error",
    143: "the GPU could not be initialized",
}
NOTED_XIDS = {
    62: "internal micro-controller halt",
    63: "a memory row was remapped",
    74: "NVLink error",
    92: "many corrected memory errors",
    94: "contained memory error",
}

Rows = List[Dict[str, str]]
Finding = Tuple[str, str]  # health, words


async def facts() -> Optional[List[GpuFacts]]:
    """None where the tool is not installed. Raises ToolFailed."""
    rows = await _query(COLUMNS)
    if rows is None:
        return None
    mig = any(row.get("mig.mode.current") == "Enabled" for row in rows)
    return devices(rows, (await ask(TOOL, "-L") or "") if mig else "")


async def metrics(known: List[GpuFacts]) -> List[GpuMetrics]:
    rows = await _query(USE) or []
    return [
        GpuMetrics(r["uuid"], int(number(r.get("memory.used"))) * MIB, int(number(r.get("utilization.gpu"))))
        for r in rows
    ]


async def health(known: List[GpuFacts], kernel_log: str) -> Dict[str, Finding]:
    """By uuid; one that the tool does not name any more is left out. A part of a GPU is as well as the whole."""
    faults = xids(kernel_log)
    judged = {}
    for row in await _query(HEALTH) or []:
        bus_id = pci(row.get("pci.bus_id", ""))
        judged[bus_id] = judge(row, faults.get(bus_id, []))
    return {gpu.uuid: judged[gpu.bus_id] for gpu in known if gpu.bus_id in judged}


def table(columns: Tuple[str, ...], text: str) -> Rows:
    """Rows of `--format=csv,noheader,nounits`; lines of another width (warnings) are none."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == len(columns)]
    return [dict(zip(columns, row)) for row in rows]  # noqa: B905 - Python 3.8 has no `strict`


def devices(rows: Rows, listing: str) -> List[GpuFacts]:
    """The GPUs; where one is in MIG mode, its parts (of `nvidia-smi -L`) instead."""
    parts = mig_parts(listing)
    found = []
    for row in rows:
        if _lost(row):
            continue  # nothing in it can be relied on; its health says what became of it
        product = row.get("name", "")
        whole = GpuFacts(
            vendor=VENDOR,
            name=short_name(VENDOR, product),
            memory_bytes=_memory_bytes(row.get("memory.total", "")),
            uuid=row.get("uuid", ""),
            index=int(number(row.get("index"))),
            product=product,
            driver=row.get("driver_version", ""),
            bus_id=pci(row.get("pci.bus_id", "")),
        )
        if row.get("mig.mode.current") != "Enabled":
            found.append(whole)
        for profile, uuid in parts.get(whole.uuid, []):
            part = GpuFacts(**{**vars(whole), "uuid": uuid, "product": "%s MIG %s" % (product, profile)})
            part.memory_bytes = _profile_bytes(profile)
            found.append(part)
    return found


def mig_parts(listing: str) -> Dict[str, List[Tuple[str, str]]]:
    """(profile, uuid) of the MIG instances by the uuid of their GPU."""
    parts: Dict[str, List[Tuple[str, str]]] = {}
    parent = ""
    for line in listing.splitlines():
        head, part = PARENT.match(line), MIG.match(line)
        if head:
            parent = head.group(1)
        elif part:
            parts.setdefault(parent, []).append((part.group(1), part.group(2)))
    return parts


def xids(kernel_log: str) -> Dict[str, List[int]]:
    """Xid numbers by PCI address, since the driver was last loaded."""
    found: Dict[str, List[int]] = {}
    for line in kernel_log.splitlines():
        if DRIVER_LOADED in line:
            found.clear()
        match = XID.search(line)
        if match:
            address = pci(match.group(1))
            # The log leaves the function out: `0000:44:00` is `0000:44:00.0`.
            found.setdefault(address if "." in address else address + ".0", []).append(int(match.group(2)))
    return found


def judge(row: Dict[str, str], faults: List[int]) -> Finding:
    failures = ["nvidia-smi says: " + words for words in _lost(row)]
    failures += ["Xid %d: %s" % (n, FATAL_XIDS[n]) for n in sorted(set(faults)) if n in FATAL_XIDS]
    warnings = ["Xid %d: %s" % (n, NOTED_XIDS[n]) for n in sorted(set(faults)) if n in NOTED_XIDS]
    if _yes(row.get("remapped_rows.failure")):
        failures.append("memory rows could not be remapped")
    if _yes(row.get("remapped_rows.pending")) or _yes(row.get("retired_pages.pending")):
        warnings.append("memory is to be remapped at the next reset")
    errors = int(number(row.get("ecc.errors.uncorrected.volatile.total")))
    if errors:
        warnings.append("%d uncorrected memory error%s since the driver was loaded" % (errors, "s"[: errors != 1]))
    if row.get("clocks_throttle_reasons.hw_thermal_slowdown") == "Active":
        warnings.append("slowed down by heat (%s C)" % row.get("temperature.gpu", "?"))
    if failures:
        return FAILURE, "; ".join(failures + warnings)
    return (WARNING, "; ".join(warnings)) if warnings else (HEALTHY, "")


def _lost(row: Dict[str, str]) -> List[str]:
    """What the tool writes in place of values that a GPU does not answer any more."""
    said = [value.strip("[]") for value in row.values() if LOST.search(value)]
    return list(dict.fromkeys(said))


async def _query(columns: Tuple[str, ...]) -> Optional[Rows]:
    """Drivers differ in what may be asked for: a column that this one does not know is left out."""
    while True:
        try:
            text = await ask(TOOL, "--query-gpu=" + ",".join(columns), "--format=csv,noheader,nounits")
        except ToolFailed as e:
            unknown = UNKNOWN_FIELD.search(str(e))
            if unknown is None or unknown.group(1) not in columns:
                raise
            columns = tuple(c for c in columns if c != unknown.group(1))
            continue
        return None if text is None else table(columns, text)


def _memory_bytes(cell: str) -> int:
    """Where a chip has no memory of its own (GB10), it has the machine's, and the tool says `[N/A]`."""
    if cell == "[N/A]":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(number(cell)) * MIB


def _profile_bytes(profile: str) -> int:
    """`1g.10gb` and `1g.10gb+me` have 10 GiB."""
    match = re.search(r"(\d+)gb", profile)
    return int(match.group(1)) * 1024 * MIB if match else 0


def _yes(value: Optional[str]) -> bool:
    return value is not None and (value.lower() == "yes" or (value.isdigit() and int(value) > 0))
