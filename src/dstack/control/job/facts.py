"""What a job learns from its inbox: facts are kept on the row, and what needs a reaction is handed on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dstack.agentapi import wire
from dstack.control.kernel import Draft, Received
from dstack.model.job import Job, JobSession
from dstack.model.observation import GpusMeasured, TaskAccepted, TaskLost, TaskRefused, TaskRemoved, TaskReported

_ORDER = {
    state: i
    for i, state in enumerate(
        (wire.PENDING, wire.PULLING, wire.CREATING, wire.RUNNING, wire.STOPPING, wire.EXITED, wire.FAILED)
    )
}


@dataclass(slots=True)
class Facts:
    """`report` is the furthest one: reports may come twice, late and out of order."""

    report: TaskReported | None = None
    refused: str | None = None
    lost: bool = False
    removed: bool = False
    idle_s: float | None = None  # of its GPUs, when they were measured


def absorb(d: Draft[Job], inbox: Iterable[Received]) -> Facts:
    """Consume everything. A terminal job only drops what still comes in."""
    facts = Facts()
    for received in inbox:
        d.consume(received)
        if d.row.terminal:
            continue
        match received.observation:
            case TaskAccepted():
                d.set(task_started=True)
            case TaskReported() as report:
                _report(d, facts, report)
            case GpusMeasured(idle_s=idle):
                facts.idle_s = idle
            case TaskRefused(message=message):
                facts.refused = message
            case TaskLost():
                facts.lost = True
                d.set(task_ended=True)  # still removed there: the host may have told of an older state
            case TaskRemoved():
                facts.removed = True
            case _:
                pass  # not about a job: a bug of the sender, harmless here
    return facts


def _report(d: Draft[Job], facts: Facts, report: TaskReported) -> None:
    if facts.report is None or _ORDER.get(report.state, 0) >= _ORDER.get(facts.report.state, 0):
        facts.report = report
    fields: dict = {"task_started": True}
    if report.working_dir:
        fields["working_dir"] = report.working_dir
    if report.user:
        fields["username"] = report.user
    if report.ports:
        fields["port_mapping"] = dict(report.ports)
    if (session := _session(d, report)) != (d.row.session or JobSession()):
        fields["session"] = session
    if report.started_at is not None and d.row.running_since is None:
        # The agent's clock may be ahead, or behind, which would use up the job's max_duration at once.
        fields["running_since"] = max(min(report.started_at, d.now), d.row.submitted_at)
    if report.state in wire.ENDED:
        fields["task_ended"] = True
        if report.exit_code is not None:
            fields["exit_status"] = report.exit_code
    d.set(**fields)


def _session(d: Draft[Job], report: TaskReported) -> JobSession:
    """Time without anybody counts by our clock: that of the host may be wrong."""
    known = d.row.session or JobSession()
    if report.inactive_since == known.told_since:
        since, warned = known.inactive_since, known.warned
    else:
        since, warned = None if report.inactive_since is None else d.now, False
    return JobSession(
        user=report.session_user,
        host_key=report.session_host_key,
        message=report.session_message,
        inactive_since=since,
        told_since=report.inactive_since,
        warned=warned,
    )
