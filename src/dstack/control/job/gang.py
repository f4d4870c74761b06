"""Nodes of one gang: they start when all of them have their machines, in the order that was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from dstack.control import wording
from dstack.control.kernel import Draft
from dstack.model.job import Job
from dstack.model.profile import StartupOrder


def tell_ready(d: Draft[Job], gang: Iterable[Job]) -> None:
    """Its machine is there: from now on it waits for the others, each of which has deadlines of its own."""
    if d.row.ready_since is None:
        d.set(ready_since=d.now, provisioning_deadline=None)
        d.wake(*(j.ref for j in gang))


def waits_for(job: Job, gang: tuple[Job, ...]) -> str | None:
    """What a ready node still waits for, in words; None when it may start."""
    late = [j for j in gang if j.ready_since is None]
    if late:
        return f"{wording.node(late[0])} to be ready"
    if job.spec.startup_order is StartupOrder.MASTER_FIRST and job.job_num:
        awaited = [j for j in gang if j.job_num == 0]
    elif job.spec.startup_order is StartupOrder.WORKERS_FIRST and not job.job_num:
        awaited = list(gang)
    else:
        return None
    return next((f"{wording.node(j)} to run" for j in awaited if j.running_since is None), None)
