"""Intel Gaudi accelerators, as hl-smi tells them."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from dstack.agent.gpu_names import short_name
from dstack.agent.gpu_tools import ask, number, pci, size
from dstack.agentapi.wire import HEALTHY, WARNING, GpuFacts, GpuMetrics

VENDOR = "intel"
PCI_VENDOR = "0x1da3"
TOOL = "hl-smi"
COLUMNS = ("index", "name", "uuid", "bus_id", "driver_version", "memory.total", "module_id")
USE = ("uuid", "memory.used", "utilization.aip")
HEALTH = ("uuid", "ecc.errors.uncorrected.volatile.total", "stats.violation.thermal")

Rows = List[Dict[str, str]]


async def facts() -> Optional[List[GpuFacts]]:
    """None where the tool is not installed. Raises ToolFailed."""
    text = await _query(COLUMNS)
    return None if text is None else devices(table(COLUMNS, text))


async def metrics(known: List[GpuFacts]) -> List[GpuMetrics]:
    rows = table(USE, await _query(USE) or "")
    return [GpuMetrics(r["uuid"], size(r["memory.used"]), int(number(r["utilization.aip"]))) for r in rows]


async def health(known: List[GpuFacts], kernel_log: str) -> Dict[str, Tuple[str, str]]:
    """By uuid."""
    return {row["uuid"]: judge(row) for row in table(HEALTH, await _query(HEALTH) or "")}


def table(columns: Tuple[str, ...], text: str) -> Rows:
    """Rows of the csv; a heading, which some versions print all the same, and warnings are none."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == len(columns) and not row[0].startswith(columns[0])]
    return [dict(zip(columns, row)) for row in rows]  # noqa: B905 - Python 3.8 has no `strict`


def devices(rows: Rows) -> List[GpuFacts]:
    return [
        GpuFacts(
            vendor=VENDOR,
            name=short_name(VENDOR, row["name"]),
            memory_bytes=size(row["memory.total"]),
            uuid=row["uuid"],
            index=int(number(row["module_id"])),  # what the runtime and the software of jobs count by
            product=row["name"],
            driver=row["driver_version"],
            bus_id=pci(row["bus_id"]),
        )
        for row in rows
    ]


def judge(row: Dict[str, str]) -> Tuple[str, str]:
    warnings = []
    errors = int(number(row["ecc.errors.uncorrected.volatile.total"]))
    if errors:
        warnings.append("%d uncorrected memory error%s since the driver was loaded" % (errors, "s"[: errors != 1]))
    if number(row["stats.violation.thermal"]):
        warnings.append("slowed down by heat")
    return (WARNING if warnings else HEALTHY, "; ".join(warnings))


async def _query(columns: Tuple[str, ...]) -> Optional[str]:
    return await ask(TOOL, "-Q", ",".join(columns), "-f", "csv,noheader")
