"""NVIDIA accelerators, as nvidia-smi tells them. A machine without it has none; a hanging driver is none either."""

from __future__ import annotations

import asyncio
import shutil
from typing import Dict, List, Optional

from dstack.agentapi.wire import GpuFacts, GpuMetrics

PATIENCE_S = 15.0  # the first call after a boot loads the driver
MIB = 1024 * 1024

_known: Dict[str, List[GpuFacts]] = {}


async def facts() -> List[GpuFacts]:
    """What is built in. Asked once: it does not change while the agent runs, and asking takes a second on big hosts."""
    if "nvidia" not in _known:
        rows = await _query("name,memory.total,uuid")
        if rows is None:
            return []
        _known["nvidia"] = [
            GpuFacts(vendor="nvidia", name=name, memory_bytes=_int(memory) * MIB, uuid=uuid)
            for name, memory, uuid in rows
        ]
    return _known["nvidia"]


async def metrics() -> List[GpuMetrics]:
    """What all accelerators of the machine do just now."""
    if not await facts():
        return []
    rows = await _query("uuid,memory.used,utilization.gpu") or []
    return [GpuMetrics(uuid, _int(used) * MIB, _int(util)) for uuid, used, util in rows]


async def _query(columns: str) -> Optional[List[List[str]]]:
    """Rows of nvidia-smi's table; None when it is not there or does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    argv = [program, "--query-gpu=" + columns, "--format=csv,noheader,nounits"]
    null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=pipe, stderr=null)
    except OSError:
        return None
    try:
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    except asyncio.TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()  # not waited for: a process stuck in the driver cannot be
    if process.returncode != 0:
        return None
    rows = [[field.strip() for field in line.split(",")] for line in out.decode("utf-8", "replace").splitlines()]
    return [row for row in rows if len(row) == columns.count(",") + 1]


def _int(text: str) -> int:
    try:
        return int(float(text))
    except ValueError:
        return 0  # "[N/A]" and the like
