"""`dstack why RUN`: where a run stands, what it waits for, and why nothing fitted."""

from __future__ import annotations

from typing import Any

from dstack.control.scheduling import candidates
from dstack.control.wording import duration
from dstack.model.job import Job, JobStatus, PlacementReport
from dstack.model.run import RunStatus, RunTerminationReason
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.runs.planning import pool_of
from dstack.server.services.runs.reading import RunKey, get_view
from dstack.server.services.runs.waiting import job_deadline, job_waits_for
from dstack.server.services.wire import jobs as wire_jobs
from dstack.server.services.wire import runs as wire_runs
from dstack.server.services.wire.runs import RunView, current
from dstack.server.services.wire.values import plain


async def why(parts: Parts, access: Access, name: str) -> dict[str, Any]:
    """Facts of each job, and `lines` for people. Raises ResourceNotFound."""
    view = await get_view(parts, access, RunKey(name))
    jobs = current(view.jobs)
    hosts = await _hosts(parts, access, jobs)
    return {
        "name": view.run.name,
        "status": str(view.run.status),
        "status_message": wire_runs.status_message(view.run, view.jobs),
        "jobs": [_job(one, view.now) for one in jobs],
        "lines": _lines(view, jobs) + hosts,
    }


async def _hosts(parts: Parts, access: Access, jobs: list[Job]) -> list[str]:
    """A line for each host of one's own that cannot take a job which has no place."""
    job = next((one for one in jobs if one.place is None and one.placement is not None), None)
    if job is None:
        return []
    async with parts.database.read() as connection:
        pool = await pool_of(connection, access.project.id, (), parts.database.kept)
    report = candidates(job.spec.requirements, pool.fleets, pool.instances, ()).report
    if not report.hosts:
        return []
    name, address = (max(len(getattr(one, field)) for one in report.hosts) for field in ("instance", "host"))
    lines = [f"  {one.instance:<{name}}  {one.host:<{address}}  {one.reason}" for one in report.hosts]
    more = [f"  and {report.more_hosts} more"] if report.more_hosts else []
    return ["Hosts that do not fit now:", *lines, *more]


def _job(job: Job, now: float) -> dict[str, Any]:
    return {
        "name": job.spec.name,
        "status": str(job.status),
        "reason": job.termination_reason and str(job.termination_reason),
        "message": job.termination_message,
        "placement": plain(job.placement),
        "waiting_for": job_waits_for(job, now),
        "deadline": job_deadline(job),
    }


def _lines(view: RunView, jobs: list[Job]) -> list[str]:
    run = view.run
    head = f"{run.name} is {run.status}"
    if run.termination_reason is not None:
        head += f": {str(run.termination_reason).replace('_', ' ')}"
    message = run.termination_message
    if message and message not in {job.termination_message for job in jobs}:  # a job's own line tells it below
        head += f" ({message})"
    lines = [head]
    if view.waiting_for:
        lines.append(f"It waits for {view.waiting_for}.")
    if run.status is RunStatus.TERMINATING and run.termination_reason is RunTerminationReason.STOPPED_BY_USER:
        lines.append(f"`dstack stop --abort {run.name}` does not wait.")
    for job in jobs:
        lines += _job_lines(job, view, alone=len(jobs) == 1)
    return lines


def _job_lines(job: Job, view: RunView, alone: bool) -> list[str]:
    now = view.now
    name = "" if alone else f"{job.spec.name}: "
    lines = []
    if job.termination_reason is not None:
        message = f": {job.termination_message}" if job.termination_message else ""
        lines.append(f"{name}{wire_jobs.status_message(job)}{message}")
    elif not alone:
        lines.append(f"{name}{job.status}, waits for {job_waits_for(job, now) or 'nothing'}")
    lines += [name + line for line in _silence_lines(job, view)]
    deadline = job_deadline(job)
    if deadline is not None and not job.terminal:
        lines.append(f"{name}This state ends in {duration(max(0.0, deadline - now))} at the latest.")
    if job.placement is not None and job.place is None:
        lines += [name + line for line in funnel_lines(job.placement)]
    return lines


def _silence_lines(job: Job, view: RunView) -> list[str]:
    silence = wire_jobs.silence_of(job, view.around)
    if silence is None or job.place is None:
        return []
    host = f"{job.place.instance_name} ({job.place.remote.key})" if job.place.remote else job.place.instance_name
    known = f": {silence.message}" if silence.message else ""
    since = duration(max(0.0, view.now - silence.since))
    lines = [f"{host} has not answered for {since}{known}"]
    if job.status is JobStatus.RUNNING:
        lines.append("The job goes on there, as far as anybody can know, and is found again when the host answers.")
    return lines


def funnel_lines(report: PlacementReport) -> list[str]:
    """How many machines and offers were looked at, and what each filter dropped."""
    noun = "offer or instance was" if report.considered == 1 else "offers and instances were"
    fit = f"{report.fitting} fit" if report.fitting > 1 else "1 fits" if report.fitting else "none fits"
    lines = [f"{report.considered} {noun} looked at, {fit}."]
    for drop in report.drops:
        nearest = f", nearest: {drop.nearest}" if drop.nearest else ""
        hint = f" -> {drop.hint}" if drop.hint else ""
        lines.append(f"  {drop.count} dropped by {drop.stage}: {drop.reason}{nearest}{hint}")
    return lines
