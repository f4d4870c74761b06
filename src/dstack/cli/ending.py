"""How a run ended, for the shell that waits for it: its exit code, and whose fault it was."""

from __future__ import annotations

from typing import Any

from dstack.cli.render.runs import jobs_of

Json = dict[str, Any]

EXITED = "container_exited_with_error"


def exit_code(run: Json) -> int:
    """0 done; the job's own code when it ended by itself; 1 when it could not run or was ended."""
    if run["status"] == "done":
        return 0
    status = run.get("x_exit_status")
    status = (decisive(run) or {}).get("exit_status") if status is None else status
    if run["status"] != "failed" or not isinstance(status, int) or not status:
        return 1
    return status & 0xFF or 1


def decisive(run: Json) -> Json | None:
    """The submission that the end of the run came from: of several jobs the first that failed by itself."""
    newest = [job["job_submissions"][-1] for job in jobs_of(run) if job["job_submissions"]]
    own = [attempt for attempt in newest if attempt.get("termination_reason") == EXITED]
    failed = [attempt for attempt in newest if attempt.get("exit_status")]
    return next(iter([*own, *failed, *newest]), None)


def never_ran(run: Json) -> bool:
    """Whether all is over before any job got a machine."""
    newest = [job["job_submissions"][-1] for job in jobs_of(run) if job["job_submissions"]]
    return bool(newest) and all(attempt.get("termination_reason") for attempt in newest) and not was_placed(run)


def was_placed(run: Json) -> bool:
    """Whether any job got a machine: only then there is a log."""
    return any(
        job["job_submissions"][-1].get("job_provisioning_data") for job in jobs_of(run) if job["job_submissions"]
    )
