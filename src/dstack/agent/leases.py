"""Who has which accelerators: chosen by the agent, written into the task's report, free again when the task ends."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable, Iterable, List, Optional, Set

from dstack.agent.machine import Task, TaskFailed
from dstack.agentapi.wire import FAILURE, GPUS_TAKEN, GpuFacts

ALL = -1


class Leases:
    """The leases are in the tasks' reports, and so on disk: an agent that starts anew has them again."""

    def __init__(self, facts: Callable[[], Awaitable[List[GpuFacts]]]):
        self._facts = facts
        self._lock: Optional[asyncio.Lock] = None

    async def take(self, task: Task, tasks: Callable[[], Iterable[Task]], changed: Callable[[Task], None]) -> None:
        """Lease to `task` what its spec asks for; what it has already stays. Raises TaskFailed when that is not free.

        `changed` stores the task before the lock is given back.
        """
        count = task.spec.gpus if task.spec is not None else 0
        if count == 0 or task.report.gpus:
            return
        if self._lock is None:
            self._lock = asyncio.Lock()  # made here: it belongs to the loop that runs
        async with self._lock:
            facts = await self._facts()
            taken = {uuid for other in tasks() if other is not task and not other.ended for uuid in other.report.gpus}
            chosen = choose(facts, taken, count)
            if chosen:
                task.report.gpus = [gpu.uuid for gpu in chosen]
                changed(task)


def choose(facts: List[GpuFacts], taken: Set[str], count: int) -> List[GpuFacts]:
    """The free ones with the lowest numbers, side by side where that is possible. Raises TaskFailed."""
    free = [gpu for gpu in facts if gpu.uuid not in taken and gpu.health != FAILURE]
    wanted = len(facts) if count == ALL else count
    if len(free) < wanted:
        raise TaskFailed(GPUS_TAKEN, _refusal(facts, taken, free, wanted))
    free.sort(key=lambda gpu: (gpu.vendor, gpu.index, gpu.uuid))
    for start in range(len(free) - wanted + 1):
        window = free[start : start + wanted]
        if window and _side_by_side(window):
            return window
    return free[:wanted]


def _side_by_side(window: List[GpuFacts]) -> bool:
    one_vendor = window[0].vendor == window[-1].vendor
    return one_vendor and window[-1].index - window[0].index <= len(window) - 1


def _refusal(facts: List[GpuFacts], taken: Set[str], free: List[GpuFacts], wanted: int) -> str:
    leased = sum(gpu.uuid in taken for gpu in facts)
    failed = len(facts) - leased - len(free)
    why = ["%d %s leased to other tasks" % (leased, "is" if leased == 1 else "are")] if leased else []
    why += ["%d failed its health check" % failed] if failed else []
    needed = "%d accelerator%s needed" % (wanted, " is" if wanted == 1 else "s are")
    return "%s, %d of %d free%s" % (needed, len(free), len(facts), " (%s)" % ", ".join(why) if why else "")
