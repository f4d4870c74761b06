"""From the agent's reports to observations."""

from __future__ import annotations

from dstack.agentapi.wire import PENDING, HostFacts, TaskReport
from dstack.model.instance import HostInfo
from dstack.model.observation import TaskReported


def reported(report: TaskReport) -> TaskReported | None:
    """What the job's decision should hear of a report; None when it is no news at all (not begun)."""
    if report.state == PENDING:
        return None
    return TaskReported(
        state=report.state,
        exit_code=report.exit_code,
        reason=report.reason,
        message=report.message,
        working_dir=report.working_dir,
        user=report.user,
        ports=dict(report.ports),
        started_at=report.started_at,
        finished_at=report.finished_at,
    )


def host_info(facts: HostFacts) -> HostInfo:
    return HostInfo(
        hostname=facts.hostname,
        boot_id=facts.boot_id,
        runtime=facts.runtime,
        engine_version=facts.engine_version,
        agent_version=facts.agent_version,
        cpus=facts.cpus,
        memory_mib=facts.memory_bytes // 1024**2,
        disk_mib=facts.disk_bytes // 1024**2,
        gpus=len(facts.gpus),
        user=facts.user,
    )
