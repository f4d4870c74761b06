"""When a run that nobody is in ends: the warning first, then the end."""

from __future__ import annotations

from dstack.model.job import Job

MOST_WARNING_S = 300.0


def end_at(job: Job) -> float | None:
    """The instant at which the job ends if nobody enters it; None while somebody is in, or where that ends nothing."""
    limit = job.spec.inactivity_duration_s
    if limit is None or job.session is None or job.session.inactive_since is None:
        return None
    return max(job.session.inactive_since, job.running_since or 0.0) + limit


def warn_at(job: Job) -> float | None:
    """The instant of the warning: some minutes before the end, of short limits half of them."""
    end, limit = end_at(job), job.spec.inactivity_duration_s
    return None if end is None or limit is None else end - min(MOST_WARNING_S, limit / 2)


def next_look(job: Job) -> float | None:
    warned = job.session is not None and job.session.warned
    return end_at(job) if warned else warn_at(job)
