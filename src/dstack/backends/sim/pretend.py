"""An agent that pretends: it takes jobs, says so in their log, and ends them after a while; nothing is executed."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dstack.agentapi.wire import (
    ENDED,
    EXITED,
    FAILED,
    RUNNING,
    EventsPage,
    HostFacts,
    StopRequest,
    TaskReport,
    TaskSpec,
)
from dstack.backends.sim.config import Pretence
from dstack.backends.sim.misfortune import write_json
from dstack.clock import Clock


class NotEnded(Exception):
    """The task cannot be forgotten yet."""


@dataclass
class PretendedTask:
    """`ends_at` is when it ends by itself; a tombstone has none and never began."""

    id: str
    ends_at: float | None = None
    log: str = ""
    state: str = RUNNING
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    started_at: float | None = None
    finished_at: float | None = None
    seq: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class PretendAgent:
    """`file` keeps the tasks: another agent over it goes on where this one was. Waiters are called at every change.

    Several servers that share a cloud have an agent each over the same file, and one of them the link: what another
    wrote is read before anything is answered or changed.
    """

    def __init__(self, file: Path, facts: HostFacts, pretence: Pretence, clock: Clock):
        self.run = uuid.uuid4().hex
        self.facts = facts
        self.waiters: set[Callable[[], None]] = set()
        self._file = file
        self._pretence = pretence
        self._clock = clock
        self._seq = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: dict[str, PretendedTask] = {}
        self._read_at: tuple[int, int] | None = None  # which file that was; each writing makes a new one
        self._catch_up()

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def begin_anew(self, facts: HostFacts) -> None:
        """As another one over an empty folder; who is connected stays so, and hears of it by `run`."""
        self.close()
        self.run, self.facts = uuid.uuid4().hex, facts
        self._seq, self._tasks = 0, {}
        self._save()
        for waiter in list(self.waiters):
            waiter()

    def put(self, spec: TaskSpec) -> TaskReport:
        self._catch_up()
        known = self._tasks.get(spec.id)
        if known is None:
            now = self._clock.now()
            known = self._tasks[spec.id] = PretendedTask(
                spec.id,
                ends_at=now + self._pretence.duration,
                log=f"{spec.name} is only pretended for {self._pretence.duration:g} s: nothing is executed\n",
                ports={str(port): port for port in spec.ports},
                started_at=now,
            )
            self._changed(known)
            self._plan_end(known)
        return report(known)

    def stop(self, task_id: str, request: StopRequest) -> TaskReport:
        self._catch_up()
        task = self._tasks.setdefault(task_id, PretendedTask(task_id))
        if not task.ended:
            task.reason, task.message = request.reason, request.message
            self._end(task, FAILED)
        return report(task)

    def delete(self, task_id: str, log_offset: int, force: bool) -> None:
        """Forget it; idempotent. Raises NotEnded while it runs, or while its log is not read to the end."""
        self._catch_up()
        task = self._tasks.get(task_id)
        if task is None:
            return
        if not task.ended:
            raise NotEnded(f"the task has not ended: it is {task.state}")
        if log_offset != len(task.log.encode()) and not force:
            raise NotEnded("the log was not read to its end")
        del self._tasks[task_id]
        self._save()

    def find(self, task_id: str) -> PretendedTask | None:
        self._catch_up()
        return self._tasks.get(task_id)

    def all(self) -> list[TaskReport]:
        self._catch_up()
        return [report(task) for task in self._tasks.values()]

    def events(self, run: str, after: int) -> EventsPage | None:
        """What changed after `after`; None: nothing yet."""
        self._catch_up()
        if run == self.run and self._seq <= after:
            return None
        since = after if run == self.run else -1
        changed = sorted((t for t in self._tasks.values() if t.seq > since), key=lambda t: t.seq)
        return EventsPage(self.run, self._seq, [report(task) for task in changed])

    def _catch_up(self) -> None:
        try:
            newest = _which(self._file)
        except FileNotFoundError:
            newest = None
        if newest == self._read_at:
            return
        self.close()
        self._tasks = {one["id"]: PretendedTask(**one) for one in _read(self._file)}
        self._read_at = newest
        self._seq = max([self._seq, *(task.seq for task in self._tasks.values())])
        for task in self._tasks.values():
            self._plan_end(task)

    def _plan_end(self, task: PretendedTask) -> None:
        if not task.ended and task.ends_at is not None:
            delay = max(0.0, task.ends_at - self._clock.now())
            self._timers[task.id] = asyncio.get_running_loop().call_later(delay, self._ends, task.id)

    def _ends(self, task_id: str) -> None:
        """Its time is over."""
        self._timers.pop(task_id, None)
        self._catch_up()
        task = self._tasks.get(task_id)
        if task is not None and not task.ended:
            self._end(task, EXITED)

    def _end(self, task: PretendedTask, state: str) -> None:
        if timer := self._timers.pop(task.id, None):
            timer.cancel()
        task.state = state
        task.exit_code = self._pretence.exit_code if state == EXITED else None
        task.finished_at = self._clock.now()
        self._changed(task)

    def _changed(self, task: PretendedTask) -> None:
        self._seq += 1
        task.seq = self._seq
        self._save()
        for waiter in list(self.waiters):
            waiter()

    def _save(self) -> None:
        write_json(self._file, [asdict(task) for task in self._tasks.values()])
        self._read_at = _which(self._file)


def report(task: PretendedTask) -> TaskReport:
    return TaskReport(
        id=task.id,
        seq=task.seq,
        state=task.state,
        exit_code=task.exit_code,
        reason=task.reason,
        message=task.message,
        runtime="docker",
        working_dir="/",
        user="root",
        ip="127.0.0.1",
        ports=task.ports,
        started_at=task.started_at,
        finished_at=task.finished_at,
        log_size=len(task.log.encode()),
    )


def _read(file: Path) -> list[dict]:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return []


def _which(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_ino, found.st_mtime_ns
