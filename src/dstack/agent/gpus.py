"""The machine's accelerators: what is built in, what they do, and how they are. A machine without tools has none."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Iterable, List, Optional, Tuple

from dstack.agent import gpu_amd, gpu_gaudi, gpu_nvidia, gpu_tenstorrent, gpu_tpu
from dstack.agent.gpu_tools import ToolFailed, in_the_machine
from dstack.agentapi.wire import FAILURE, HEALTHY, WARNING, GpuFacts, GpuMetrics, HostHealth

VENDORS = (gpu_nvidia, gpu_amd, gpu_gaudi, gpu_tenstorrent, gpu_tpu)
ASK_AGAIN_S = 60.0  # a tool that failed
METRICS_KEPT_S = 2.0  # several tasks are measured at once
KERNEL_LOG = "/dev/kmsg"
SYS = "/sys"
KERNEL_LOG_RECORDS = 100_000
_WORST = (HEALTHY, WARNING, FAILURE)


class Gpus:
    """Asked by everything in the agent that concerns accelerators. What is built in is asked for once."""

    def __init__(self, kernel_log: str = KERNEL_LOG, sys: str = SYS) -> None:
        self.findings: List[str] = []  # tools that are there and did not answer
        self.broken: List[str] = []  # of these, those whose accelerators are in the machine all the same
        self._kernel_log = kernel_log
        self._sys = sys
        self._known: Optional[List[GpuFacts]] = None
        self._lock: Optional[asyncio.Lock] = None
        self._failed_at: Optional[float] = None
        self._measured: Tuple[float, List[GpuMetrics]] = (float("-inf"), [])

    async def facts(self) -> List[GpuFacts]:
        """What is built in, by vendor and index; a tool that failed is asked again a minute later."""
        if self._lock is None:
            self._lock = asyncio.Lock()  # made here: it belongs to the loop that runs
        async with self._lock:
            if self._known is None or (
                self._failed_at is not None and time.monotonic() > self._failed_at + ASK_AGAIN_S
            ):
                await self._survey()
            return list(self._known or [])

    async def of(self, uuids: Iterable[str]) -> List[GpuFacts]:
        wanted = set(uuids)
        return [gpu for gpu in await self.facts() if gpu.uuid in wanted] if wanted else []

    async def metrics(self, uuids: Iterable[str]) -> List[GpuMetrics]:
        """What these do just now, in the order of `facts`; those of which no tool tells are left out."""
        known, asked = await self.facts(), set(uuids)
        wanted = [gpu for gpu in known if gpu.uuid in asked]
        if not wanted:
            return []
        at, rows = self._measured
        if time.monotonic() > at + METRICS_KEPT_S:
            rows = []
            for vendor in VENDORS:
                here = [gpu for gpu in known if gpu.vendor == vendor.VENDOR]
                if here:
                    try:
                        rows += await vendor.metrics(here)
                    except ToolFailed:
                        continue  # their health says so
            self._measured = (time.monotonic(), rows)
        by_uuid = {row.uuid: row for row in rows}
        return [by_uuid[gpu.uuid] for gpu in wanted if gpu.uuid in by_uuid]

    async def health(self) -> HostHealth:
        """Look at all of them anew; each one's own health is kept in its facts."""
        known = await self.facts()
        words: List[str] = list(self.broken)
        statuses = [FAILURE if words else HEALTHY]
        log = read_kernel_log(self._kernel_log) if any(g.vendor == gpu_nvidia.VENDOR for g in known) else ""
        for vendor in VENDORS:
            here = [gpu for gpu in known if gpu.vendor == vendor.VENDOR]
            if not here:
                continue
            try:
                found = await vendor.health(here, log)
            except ToolFailed as e:
                statuses.append(FAILURE)
                words += [text for text in (str(e),) if text not in words]
                continue
            for gpu in here:
                gpu.health, gpu.health_message = found.get(gpu.uuid, (FAILURE, "it is not there any more"))
            statuses += [gpu.health for gpu in here]
            words += ["GPU %d: %s" % (gpu.index, gpu.health_message) for gpu in here if gpu.health != HEALTHY]
        return HostHealth(max(statuses, key=_WORST.index), "; ".join(words))

    async def _survey(self) -> None:
        known = {gpu.uuid: gpu for gpu in self._known or []}
        self.findings, self.broken, self._failed_at = [], [], None
        for vendor in VENDORS:
            try:
                found = await vendor.facts()
            except ToolFailed as e:
                self.findings.append(str(e))
                # Many machines carry the tool of an accelerator that they do not have.
                if in_the_machine(vendor.PCI_VENDOR, self._sys):
                    self.broken.append(str(e))
                self._failed_at = time.monotonic()
                continue
            for gpu in found or []:
                known.setdefault(gpu.uuid, gpu)
        self._known = list(known.values())


def read_kernel_log(path: str = KERNEL_LOG) -> str:
    """The kernel's messages since the boot; "" where they may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    records: List[bytes] = []
    try:
        while len(records) < KERNEL_LOG_RECORDS:
            try:
                record = os.read(fd, 8192)  # one message each, from /dev/kmsg
            except BrokenPipeError:
                continue  # it was overwritten before it was read: the next one follows
            if not record:
                break
            records.append(record)
    except OSError:
        pass  # that was the last one
    finally:
        os.close(fd)
    return b"".join(records).decode("utf-8", "replace")
