"""What a run or an instance waits for now, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dstack.control.instance.remarks import waits_to_be_mended
from dstack.control.scheduling.each import in_a_line
from dstack.control.wording import duration, moment
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobStatus
from dstack.model.run import Run, RunStatus
from dstack.server.services.wire.runs import current


def waiting_for(run: Run, jobs: Sequence[Job], now: float) -> str | None:
    """The one thing that people want to know first; None when it runs or is over."""
    if run.terminal:
        return None
    if run.status is RunStatus.PENDING:
        if run.next_triggered_at is not None:
            return f"its schedule, next at {moment(run.next_triggered_at)}"
        if run.next_attempt_at is None:
            return "its next start"
        return f"the next attempt, in {duration(max(0.0, run.next_attempt_at - now))}"
    for status in (JobStatus.SUBMITTED, JobStatus.PROVISIONING, JobStatus.PULLING, JobStatus.TERMINATING):
        job = next((one for one in current(jobs) if one.status is status), None)
        if job is not None:
            return job_waits_for(job, now)
    return None


def job_waits_for(job: Job, now: float) -> str | None:
    where = f" {job.place.instance_name}" if job.place else ""
    match job.status:
        case JobStatus.SUBMITTED:
            return _place_waited_for(job)
        case JobStatus.PROVISIONING if job.ready_since is not None and job.provisioning_deadline is None:
            return "the other nodes"
        case JobStatus.PROVISIONING if not job.task_started:
            new = job.place is not None and job.place.created_instance
            return f"the {'new ' if new else ''}instance{where} to accept the job"
        case JobStatus.PROVISIONING:
            return f"the job to start on{where}" if where else "the job to start"
        case JobStatus.PULLING if job.place is not None and job.place.offer.runtime == "process":
            return "the job to be prepared"
        case JobStatus.PULLING:
            return f"the image {job.spec.image}" if job.spec.image else "the image"
        case JobStatus.TERMINATING:
            left = job.terminating_deadline and max(0.0, job.terminating_deadline - now)
            return "the job to end" + (f", at most {duration(left)}" if left else "")
        case _:
            return None


def _place_waited_for(job: Job) -> str:
    text = (job.placement and job.placement.waiting_for) or "a free instance or an offer"
    hosts = in_a_line(job.placement) if job.placement is not None else ""
    return f"{text}; {hosts}" if hosts else text


def instance_waits_for(instance: Instance) -> str | None:
    if instance.unreachable_since is not None and not instance.terminal:
        return "the host to answer again"
    if instance.remote is not None and not instance.terminal:
        return _host_waits_for(instance)
    match instance.status:
        case InstanceStatus.PENDING:
            return f"backend {instance.offer.backend} to create it"
        case InstanceStatus.PROVISIONING:
            return "the agent on the new instance to answer"
        case InstanceStatus.TERMINATING if instance.unneeded and instance.unknown_tasks:
            return "what runs there to end, or `dstack fleet delete`"
        case InstanceStatus.TERMINATING:
            return f"backend {instance.offer.backend} to say that it is gone"
        case _:
            return None


def _host_waits_for(instance: Instance) -> str | None:
    match instance.status:
        case InstanceStatus.PENDING | InstanceStatus.PROVISIONING if waits_to_be_mended(instance):
            return "the host to be mended"
        case InstanceStatus.PENDING | InstanceStatus.PROVISIONING:
            return "the host to be set up"
        case InstanceStatus.TERMINATING:
            return "the host to be left as it was found"
        case _:
            return None


def job_deadline(job: Job) -> float | None:
    """When the present state ends by itself."""
    match job.status:
        case JobStatus.PROVISIONING | JobStatus.PULLING:
            return job.provisioning_deadline
        case JobStatus.RUNNING:
            return job.max_duration_deadline
        case JobStatus.TERMINATING:
            return job.terminating_deadline
        case _:
            return None


def instance_deadline(instance: Instance) -> float | None:
    match instance.status:
        case InstanceStatus.PENDING | InstanceStatus.PROVISIONING:
            return instance.provisioning_deadline
        case InstanceStatus.IDLE:
            return instance.idle_deadline
        case _:
            return instance.unreachable_deadline
