"""When a failed run is submitted again, and how long a series of failures may last."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from dstack.control.policy.deadlines import terminating_since
from dstack.model.job import Job

DELAYS_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# A job that ran this long was healthy: its failure begins a new series.
HEALTHY_AFTER_S = 600.0
# Offers that one submission of a job may try before it ends for want of capacity.
MAX_OFFERS_TRIED = 25


class Verdict(StrEnum):
    RETRY = "retry"
    NOT_COVERED = "not covered"
    EXPIRED = "expired"


def delay(attempts: int) -> float:
    """Seconds before the resubmission that follows `attempts` earlier ones of the same series."""
    return DELAYS_S[min(attempts, len(DELAYS_S) - 1)]


def verdict(failed: Iterable[Job], retry_since: float, now: float) -> Verdict:
    """What the retry rules of the failed jobs say together: one that is not retried ends the run."""
    for job in failed:
        rule = job.spec.retry
        event = job.termination_reason.retry_event if job.termination_reason else None
        if rule is None or event is None or event not in rule.on_events:
            return Verdict.NOT_COVERED
        if now - retry_since > rule.duration_s:
            return Verdict.EXPIRED
    return Verdict.RETRY


def was_healthy_since(failed: Iterable[Job], since: float) -> bool:
    """All of them started after `since` and ran long enough for their failure to count as a fresh one."""
    return all(j.running_since is not None and j.running_since > since and _ran_s(j) >= HEALTHY_AFTER_S for j in failed)


def _ran_s(job: Job) -> float:
    """Until it began to end: the clean-up of it and of its siblings does not count."""
    if job.running_since is None or job.terminating_deadline is None:
        return 0.0
    return terminating_since(job.terminating_deadline, job.spec.stop_duration_s) - job.running_since
