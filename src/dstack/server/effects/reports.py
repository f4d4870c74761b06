"""From the agent's reports to observations."""

from __future__ import annotations

from typing import Literal

from dstack.agentapi import wire
from dstack.agentapi.wire import PENDING, HostFacts, TaskReport
from dstack.model.instance import HostInfo
from dstack.model.observation import HostHealth, TaskReported


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
        session_user=report.session_user,
        session_host_key=report.session_host_key,
        session_message=report.session_message,
        inactive_since=report.inactive_since,
    )


def host_info(facts: HostFacts, unknown_tasks: int = 0) -> HostInfo:
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
        gpu_driver=facts.gpus[0].driver if facts.gpus else "",
        user=facts.user,
        health=_status(facts.health),
        health_message=facts.health.message,
        unknown_tasks=unknown_tasks,
    )


def host_health(health: wire.HostHealth) -> HostHealth:
    return HostHealth(health=_status(health), message=health.message)


def _status(health: wire.HostHealth) -> Literal["healthy", "warning", "failure"]:
    """What a newer agent says and we do not know is for people to look at."""
    if health.status == wire.HEALTHY:
        return "healthy"
    return "failure" if health.status == wire.FAILURE else "warning"
