"""A simulated host: an agent with tasks that follow a script, and a link that can break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dstack.agentapi import wire
from dstack.model.observation import TaskReported
from dstack.sim.clock import VirtualClock


@dataclass(frozen=True, slots=True)
class Script:
    """How the process of a job behaves. `run_s` is until it ends by itself, `stop_s` what it needs after a signal."""

    pull_s: float = 0.0
    run_s: float = 60.0
    exit_code: int = 0
    reason: str = ""
    stop_s: float = 1.0


@dataclass(slots=True)
class Task:
    job_id: str
    script: Script
    state: str = wire.PENDING
    exit_code: int | None = None
    reason: str = ""
    started_at: float | None = None
    epoch: int = 0  # plans of an earlier life of the task are void

    @property
    def ended(self) -> bool:
        return self.state in wire.ENDED

    def report(self) -> TaskReported:
        return TaskReported(state=self.state, exit_code=self.exit_code, reason=self.reason, started_at=self.started_at)


class Unreachable(Exception):
    """The agent does not answer."""


@dataclass(slots=True)
class Host:
    """`tell` is called with every change of a task. Tombstones keep a late start from running a task again."""

    token: str
    clock: VirtualClock
    tell: Callable[[Host, Task], None]
    boot_at: float
    tasks: dict[str, Task] = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    starts: dict[str, int] = field(default_factory=dict)
    deaf_until: float = 0.0
    dead: bool = False

    def reachable(self) -> bool:
        now = self.clock.now()
        return not self.dead and now >= self.boot_at and now >= self.deaf_until

    def put(self, job_id: str, script: Script) -> TaskReported:
        """Idempotent: a resent task answers its present state."""
        self._answering()
        if job_id in self.tombstones:
            return TaskReported(state=wire.FAILED, reason=wire.STOPPED)
        task = self.tasks.get(job_id)
        if task is None:
            task = self.tasks[job_id] = Task(job_id, script)
            self.starts[job_id] = self.starts.get(job_id, 0) + 1
            if script.pull_s:
                self._plan(task, 0.1, self._pull)
            else:
                self._plan(task, 0.2, self._run)
        return task.report()

    def stop(self, job_id: str, grace_s: float) -> TaskReported:
        self._answering()
        task = self.tasks.get(job_id)
        if task is None:
            self.tombstones.add(job_id)
            return TaskReported(state=wire.FAILED, reason=wire.STOPPED)
        if not task.ended:
            task.state = wire.STOPPING
            self._plan(task, min(task.script.stop_s, grace_s), self._end, wire.EXITED, 130, wire.STOPPED)
        return task.report()

    def remove(self, job_id: str) -> bool:
        """False while it still runs."""
        self._answering()
        task = self.tasks.get(job_id)
        if task is not None and not task.ended:
            return False
        self.tasks.pop(job_id, None)
        self.tombstones.add(job_id)
        return True

    def reboot(self, seconds: float) -> None:
        """Everything that ran has ended; the agent finds that out when it is back."""
        self.boot_at = self.clock.now() + seconds
        for task in self.tasks.values():
            if not task.ended:
                task.epoch += 1
                task.state, task.reason = wire.FAILED, wire.HOST_REBOOTED

    def running(self) -> list[str]:
        """Jobs whose processes really run."""
        return [] if self.dead else [t.job_id for t in self.tasks.values() if not t.ended]

    def _answering(self) -> None:
        if not self.reachable():
            raise Unreachable

    def _plan(self, task: Task, seconds: float, step: Callable[..., None], *args: object) -> None:
        task.epoch += 1
        self.clock.after(seconds, self._step, task, task.epoch, step, args)

    def _step(self, task: Task, epoch: int, step: Callable[..., None], args: tuple[object, ...]) -> None:
        if task.epoch == epoch and not self.dead and not task.ended:
            step(task, *args)
            self.tell(self, task)

    def _pull(self, task: Task) -> None:
        task.state = wire.PULLING
        self._plan(task, task.script.pull_s, self._run)

    def _run(self, task: Task) -> None:
        task.state, task.started_at = wire.RUNNING, self.clock.now()
        script = task.script
        self._plan(task, script.run_s, self._end, wire.EXITED, script.exit_code, script.reason)

    def _end(self, task: Task, state: str, exit_code: int, reason: str) -> None:
        task.state, task.exit_code, task.reason = state, exit_code, reason
