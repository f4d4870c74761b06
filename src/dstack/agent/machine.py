"""The states of a task, the legal moves between them, and the task itself."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional

from dstack.agent import logfile
from dstack.agent.wakeup import Wakeup
from dstack.agentapi.wire import (
    CREATING,
    ENDED,
    EXITED,
    FAILED,
    LOG_QUOTA,
    OOM,
    PENDING,
    PULLING,
    RUNNING,
    STOPPING,
    TaskReport,
    TaskSpec,
    from_json,
    to_json,
)

TRANSITIONS = {
    PENDING: (PULLING, CREATING, STOPPING, FAILED),
    PULLING: (CREATING, STOPPING, FAILED),
    CREATING: (RUNNING, STOPPING, EXITED, FAILED),
    RUNNING: (STOPPING, EXITED, FAILED),
    STOPPING: (FAILED,),
    EXITED: (),
    FAILED: (),
}
MACHINE_RESTARTED = "the machine was restarted"
MAX_GRACE_S = 10 * 365 * 24 * 3600.0
UNENDED = (PENDING, PULLING, CREATING, RUNNING, STOPPING)


class IllegalTransition(Exception):
    """A fault in the agent itself."""


class TaskFailed(Exception):
    """The task cannot run, or was ended by us; `reason` is one of the wire's."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass
class Ending:
    """How a job ended, as its runtime saw it. `failed`: the end was not the doing of the job's own process."""

    exit_code: Optional[int] = None
    reason: str = ""
    message: str = ""
    finished_at: Optional[float] = None
    failed: bool = False


@dataclass
class StopOrder:
    """A stop request that was taken. `kill_at` is an instant, for the agent after this one, which gives it `grace_s` at
    most: clocks are set. This one goes by `due`, of the clock that nobody sets."""

    kill_at: float
    grace_s: float
    due: float
    reason: str = ""
    message: str = ""

    @property
    def left_s(self) -> float:
        """Until the kill; 0 when it is due."""
        return max(0.0, self.due - time.monotonic())


@dataclass
class Task:
    """One task: what was asked (None: a tombstone), what is told, and what its runtime must remember (`memo`)."""

    id: str
    directory: str
    spec: Optional[TaskSpec]
    report: TaskReport
    boot_id: str = ""
    stop: Optional[StopOrder] = None
    memo: Dict[str, Any] = field(default_factory=dict)
    # What its log does not say yet: bytes for which the disk had no room, and why its end may be missing.
    log_lost: int = 0
    log_cut: str = ""
    # Fired when the log has grown, or when the task has ended.
    log_grew: Wakeup = field(default_factory=Wakeup)
    # Fired when the task is told to stop.
    stop_ordered: Wakeup = field(default_factory=Wakeup)

    @property
    def ended(self) -> bool:
        return self.report.state in ENDED

    @property
    def log_size(self) -> int:
        on_disk = logfile.size(self.directory)
        # A power cut, or somebody, may have taken some of it: what is not there cannot be waited for.
        return min(self.report.log_size, on_disk) if self.ended else on_disk

    def move(self, state: str) -> bool:
        """Go to `state`. False when it is there already, or beyond (a resumed start does not go back)."""
        current = self.report.state
        if current in UNENDED and state in UNENDED and UNENDED.index(state) <= UNENDED.index(current):
            return False
        if current in (PENDING, PULLING) and state in (RUNNING, EXITED):
            current = CREATING  # the state on disk was older than what an agent that died had done
        if state not in TRANSITIONS[current]:
            raise IllegalTransition("%s: %s to %s" % (self.id, current, state))
        self.report.state = state
        return True

    def order_stop(self, grace_s: float, reason: str, message: str) -> None:
        """Take a stop request. A later one may only shorten the grace; the first one's reason stands."""
        grace_s = min(max(0.0, grace_s), MAX_GRACE_S)
        if self.stop is None:
            self.stop = _stop_in(grace_s, grace_s, reason, message)
            self.move(STOPPING)
        elif grace_s < self.stop.left_s:
            self.stop = _stop_in(grace_s, grace_s, self.stop.reason, self.stop.message)
        self.stop_ordered.fire()

    def end(self, ending: Ending) -> None:
        """Settle the final state: a stop request explains the end, unless a limit had ended the job before.

        A log of which something is missing says so at its end, or the report does where the disk has no room for that.
        """
        r = self.report
        said = [logfile.lost_words(self.log_lost)] if self.log_lost else []
        said += ["The end of this log may be missing: " + self.log_cut] if self.log_cut else []
        unsaid = [words for words in said if not logfile.note(self.directory, words, time.time())]
        r.exit_code = ending.exit_code
        r.reason, r.message = ending.reason, ending.message
        r.finished_at = ending.finished_at or time.time()
        r.log_size = logfile.size(self.directory)
        if self.stop is not None and ending.reason not in (OOM, LOG_QUOTA):
            r.reason, r.message = self.stop.reason, self.stop.message
        r.message = ". ".join(filter(None, [r.message, *unsaid]))
        failed = ending.failed or self.stop is not None or ending.exit_code is None
        self.move(FAILED if failed else EXITED)
        self.log_grew.fire()

    def to_state(self) -> Dict[str, Any]:
        return {
            "report": to_json(self.report),
            "boot_id": self.boot_id,
            "stop": asdict(self.stop) if self.stop else None,
            "memo": self.memo,
        }


def new_task(spec: TaskSpec, directory: str, boot_id: str) -> Task:
    return Task(spec.id, directory, spec, TaskReport(id=spec.id, state=PENDING), boot_id)


def tombstone(task_id: str, directory: str, reason: str, message: str, boot_id: str) -> Task:
    """What a stop of an unknown task leaves: a start that was overtaken by its stop finds it and does not happen."""
    report = TaskReport(id=task_id, state=FAILED, reason=reason, message=message, finished_at=time.time())
    return Task(task_id, directory, None, report, boot_id)


def stored_task(directory: str, spec: Optional[Dict[str, Any]], state: Dict[str, Any]) -> Task:
    """A task as it was left on disk. Raises ValueError when the files make no sense."""
    report = from_json(TaskReport, state.get("report"))
    task = Task(os.path.basename(directory), directory, from_json(TaskSpec, spec) if spec else None, report)
    task.boot_id = str(state.get("boot_id", ""))
    task.memo = dict(state.get("memo") or {})
    if state.get("stop"):
        stop = state["stop"]
        left_s = max(0.0, float(stop["kill_at"]) - time.time())
        grace_s = float(stop.get("grace_s", left_s))
        task.stop = _stop_in(min(left_s, grace_s), grace_s, str(stop["reason"]), str(stop["message"]))
    return task


def _stop_in(left_s: float, grace_s: float, reason: str, message: str) -> StopOrder:
    return StopOrder(time.time() + left_s, grace_s, time.monotonic() + left_s, reason, message)
