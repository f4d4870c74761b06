"""What a container's end means: exit, out of memory, quota, a failed start, or somebody else's doing."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional, Union

from dstack.agent import logfile, processes
from dstack.agent.docker_keeping import Keeping
from dstack.agent.docker_logs import instant
from dstack.agent.docker_output import StreamOutput
from dstack.agent.machine import Ending, Task
from dstack.agentapi.wire import CONTAINER_REMOVED, ENGINE_RESTARTED, HOST_REBOOTED, LOG_QUOTA, OOM, START_FAILED

# How the engine's init says, in the log, that the job's program is not there.
INIT_FAILED = re.compile(rb"\A\[FATAL tini \(\d+\)\] (exec [^\r\n]* failed: [^\r\n]*)")

Output = Union[Keeping, StreamOutput]


def ending_of(task: Task, facts: Optional[Dict[str, Any]], engine_was_away: bool, output: Output) -> Ending:
    """`facts` is the engine's inspection of the ended container; None when it is gone. `engine_was_away`: it took the
    container along."""
    rebooted = task.boot_id != processes.boot_id()
    if facts is None:
        if output.exceeded.is_set():
            return Ending(None, LOG_QUOTA, output.quota_message, failed=True)
        if rebooted:
            return Ending(None, HOST_REBOOTED, "The machine was restarted while the job ran", failed=True)
        return Ending(None, CONTAINER_REMOVED, "The container was removed by somebody else", failed=True)
    state = facts["State"]
    code = int(state.get("ExitCode") or 0)
    end = Ending(code, finished_at=instant(state.get("FinishedAt") or ""))
    if output.exceeded.is_set():
        return _failed(end, LOG_QUOTA, output.quota_message)
    if state.get("OOMKilled") and code:
        end.reason = OOM
        limit = int((facts.get("HostConfig") or {}).get("Memory") or 0)
        end.message = "The job used more memory than its limit of %d bytes" % limit if limit else "Out of memory"
        return end
    if rebooted or engine_was_away:
        end.exit_code = None  # the container's is that of what ended it, not the job's
    if rebooted:
        return _failed(end, HOST_REBOOTED, "The machine was restarted while the job ran")
    if engine_was_away:
        return _failed(end, ENGINE_RESTARTED, "The Docker Engine was restarted, which ended the container")
    return _explained(task, end, str(state.get("Error") or ""))


def _explained(task: Task, end: Ending, error: str) -> Ending:
    """Codes that shells and inits use for programs that are not there."""
    if end.exit_code in (126, 127):
        failure = INIT_FAILED.match(logfile.read(task.directory, 0, 4096))
        if failure:
            return _failed(
                end, START_FAILED, "The container cannot be started: %s" % failure.group(1).decode("utf-8", "replace")
            )
        what = "was not found" if end.exit_code == 127 else "is not executable"
        end.message = error or "A command %s (exit code %d)" % (what, end.exit_code)
    else:
        end.message = error
    return end


def _failed(end: Ending, reason: str, message: str) -> Ending:
    end.failed, end.reason, end.message = True, reason, message
    return end
