"""What an agent's report of an ended task means: the reason, in words that a person can act on."""

from __future__ import annotations

from typing import NamedTuple

from dstack.agentapi import wire
from dstack.model.job import Job
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.observation import TaskReported

OOM_EXIT = 137


class Verdict(NamedTuple):
    reason: Reason
    message: str | None
    exit_status: int | None


_EXECUTOR = {
    wire.HOST_REBOOTED: "The host was rebooted",
    wire.ENGINE_RESTARTED: "The container engine was restarted",
    wire.CONTAINER_REMOVED: "The container was removed from outside",
    wire.DISK_FULL: "The disk of the host is full",
    wire.EXECUTOR_ERROR: "The agent could not run the job",
}
_CREATING = {
    wire.IMAGE_PULL: "The image could not be pulled",
    wire.CREATE_FAILED: "The container could not be created",
    wire.START_FAILED: "The command could not be started",
}


def of_report(job: Job, report: TaskReported) -> Verdict:
    """Why the task ended. A stop that was asked for keeps its own reason."""
    code = report.exit_code
    if report.reason == wire.OOM:
        return Verdict(Reason.CONTAINER_EXITED_WITH_ERROR, oom_message(job), OOM_EXIT if code is None else code)
    if report.reason == wire.STOPPED:
        return Verdict(job.stop_reason or Reason.TERMINATED_BY_SERVER, job.stop_message or report.message or None, code)
    if report.reason == wire.LOG_QUOTA:
        message = report.message or "Job log output exceeded the hourly quota"
        return Verdict(Reason.LOG_QUOTA_EXCEEDED, message, code)
    if report.reason in _CREATING:
        return Verdict(Reason.CREATING_CONTAINER_ERROR, _joined(_CREATING[report.reason], report.message), code)
    if report.state == wire.EXITED and report.reason not in _EXECUTOR:
        return _of_exit(code, report.message)
    words = _EXECUTOR.get(report.reason, f"The agent could not run the job ({report.reason or 'no reason given'})")
    return Verdict(Reason.EXECUTOR_ERROR, _joined(words, report.message), code)


def oom_message(job: Job) -> str:
    """Names the limit that killed it, where one was written."""
    limit = job.spec.memory_limit_gb
    whose = f"its memory limit of {limit:g}GB" if limit is not None else "the memory that the machine has for it"
    return f"Out of memory: the job used more than {whose} (exit status {OOM_EXIT})"


def _of_exit(code: int | None, message: str) -> Verdict:
    if code == 0:
        return Verdict(Reason.DONE_BY_RUNNER, None, 0)
    return Verdict(Reason.CONTAINER_EXITED_WITH_ERROR, message or f"Exited with status {code}", code)


def _joined(words: str, detail: str) -> str:
    return f"{words}: {detail}" if detail else words
