"""Nodes of one gang: they start when all of them have their machines, in the order that was asked for.

Each tells the run when its machine is there and when it runs; the run wakes those that need not wait any more. Did they
wake one another, every step of one of n nodes would be decided n times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dstack.control import wording
from dstack.control.kernel import Draft
from dstack.model.job import Job, JobStatus
from dstack.model.profile import StartupOrder
from dstack.model.row import Ref


def tell_ready(d: Draft[Job]) -> None:
    """Its machine is there: from now on it waits for the others, each of which has deadlines of its own."""
    if d.row.ready_since is None:
        d.set(ready_since=d.now, provisioning_deadline=None)
        d.wake(Ref("run", d.row.run_id))


def waits_for_gang(job: Job) -> bool:
    """Whether it may have to wait for the other nodes: until it starts."""
    return job.is_gang and job.status is JobStatus.PROVISIONING and not job.task_started


def waits_for(job: Job, gang: Sequence[Job]) -> str | None:
    """What a ready node still waits for, in words; None when it may start. `gang`: the others."""
    late = next((j for j in gang if j.ready_since is None), None)
    if late is not None:
        return f"{wording.node(late)} to be ready"
    return next((f"{wording.node(j)} to run" for j in _before(job, gang) if j.running_since is None), None)


def released(jobs: Iterable[Job]) -> list[Job]:
    """Those of a run's jobs that told that they are ready, have not begun to start, and need not wait any more."""
    gangs: dict[int, list[Job]] = {}
    for job in jobs:
        if job.is_gang:
            gangs.setdefault(job.replica_num, []).append(job)
    return [job for gang in gangs.values() if all(j.ready_since is not None for j in gang) for job in _released(gang)]


def _released(gang: list[Job]) -> list[Job]:
    """All of the gang are ready."""
    waiting = [j for j in gang if waits_for_gang(j) and j.provisioning_deadline is None]
    # Those of one order wait for the same: the master, or all but the master.
    held = {(job.spec.startup_order, bool(job.job_num)): job for job in waiting}
    free = {key for key, job in held.items() if all(j.running_since is not None for j in _before(job, gang))}
    return [j for j in waiting if (j.spec.startup_order, bool(j.job_num)) in free]


def _before(job: Job, gang: Sequence[Job]) -> list[Job]:
    """Who must run before it starts."""
    if job.spec.startup_order is StartupOrder.MASTER_FIRST and job.job_num:
        return [j for j in gang if j.job_num == 0]
    if job.spec.startup_order is StartupOrder.WORKERS_FIRST and not job.job_num:
        return [j for j in gang if j.job_num]
    return []
