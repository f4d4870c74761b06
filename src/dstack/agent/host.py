"""Facts about this machine: processors, memory, disk, accelerators."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import socket
import subprocess
import sys
from typing import Optional

import dstack
from dstack.agent import processes
from dstack.agent.gpus import Gpus
from dstack.agent.runtimes import Runtimes
from dstack.agent.store import Store
from dstack.agentapi.wire import HostFacts

CGROUP = "/sys/fs/cgroup"


class HostFactsReader:
    def __init__(self, store: Store, runtimes: Runtimes, gpus: Gpus):
        self._store = store
        self._runtimes = runtimes
        self._gpus = gpus

    async def read(self) -> HostFacts:
        built_in = await self._gpus.facts()
        health = await self._gpus.health()
        free = shutil.disk_usage(self._store.root).free
        return HostFacts(
            hostname=socket.gethostname(),
            boot_id=processes.boot_id(),
            arch="arm" if platform.machine().lower() in ("arm64", "aarch64") else "x86",
            cpus=cpus(),
            memory_bytes=memory_bytes(),
            disk_bytes=free + self._store.used_bytes(),
            gpus=built_in,
            runtime=await self._runtimes.default(),
            engine_version=await self._runtimes.engine_version(),
            user=_user(),
            root=os.geteuid() == 0,
            agent_version=dstack.__version__,
            health=health,
            findings=list(self._gpus.findings),
        )


def cpus() -> int:
    """Processors that this process may use: its affinity, and the quota of the control group that it is in."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(count, int(quota))) if quota else count


def memory_bytes() -> int:
    """Memory of the machine, or of the control group that this process is confined to."""
    limits = [_physical_memory()]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        value = _read(os.path.join(CGROUP, name)).strip()
        if value.isdigit():
            limits.append(int(value))
    return min(limits)


def _cpu_quota() -> Optional[float]:
    v2 = _read(os.path.join(CGROUP, "cpu.max")).split()
    if len(v2) == 2 and v2[0].isdigit():
        return int(v2[0]) / int(v2[1])
    quota = _read(os.path.join(CGROUP, "cpu/cpu.cfs_quota_us")).strip()
    period = _read(os.path.join(CGROUP, "cpu/cpu.cfs_period_us")).strip()
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    return None


def _physical_memory() -> int:
    if sys.platform == "darwin":
        try:
            done = subprocess.run(["sysctl", "-n", "hw.memsize"], stdout=subprocess.PIPE, timeout=10)
            return int(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            pass  # sysconf knows it too, roughly
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> str:
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):
        return str(os.getuid())  # a user that has no name
