"""Which logs of a run are followed, and what a piece of each looks like when there are several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from dstack.cli.merged import Prefixed
from dstack.cli.render.runs import job_label, jobs_of

Json = dict[str, Any]


class Start(NamedTuple):
    """A log to follow from now on; `again` is set for another attempt of a job whose log was shown."""

    submission_id: str
    again: bool


@dataclass
class _Log:
    submission_id: str
    prefixed: Prefixed | None
    is_open: bool = True


class JobLogs:
    """The newest log of each job. Lines of several jobs are shown whole, each with its job before it."""

    def __init__(self) -> None:
        self._logs: dict[tuple[int, int], _Log] = {}

    def newest(self, run: Json) -> list[Start]:
        """The logs that are new, once those of the attempts before have been shown to their end."""
        found, jobs = [], [job for job in jobs_of(run) if job["job_submissions"]]
        for job in jobs:
            key = (int(job["job_spec"].get("replica_num", 0)), int(job["job_spec"]["job_num"]))
            submission_id, known = str(job["job_submissions"][-1]["id"]), self._logs.get(key)
            if known is None or (known.submission_id != submission_id and not known.is_open):
                prefixed = Prefixed(job_label(run, job)) if len(jobs) > 1 else None
                self._logs[key] = _Log(submission_id, prefixed)
                found.append(Start(submission_id, known is not None))
        return found

    def shown(self, submission_id: str, data: bytes) -> bytes:
        """What is shown of new bytes of a log."""
        log = self._find(submission_id)
        return log.prefixed.add(data) if log and log.prefixed else data

    def end(self, submission_id: str) -> bytes:
        """The log is complete; returns what is still to be shown of it."""
        log = self._find(submission_id)
        if log is None:
            return b""
        log.is_open = False
        return log.prefixed.end() if log.prefixed else b""

    @property
    def any_open(self) -> bool:
        return any(log.is_open for log in self._logs.values())

    def _find(self, submission_id: str) -> _Log | None:
        return next((log for log in self._logs.values() if log.submission_id == submission_id), None)
