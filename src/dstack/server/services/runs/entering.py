"""Into a job through the server, for people whose machine has no route to its host: bytes to its own sshd and back."""

from __future__ import annotations

import asyncio

from dstack.backends.base import OpensPorts, Streams
from dstack.backends.errors import BackendError
from dstack.errors import DstackError
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.rows import fetch
from dstack.server.services.runs.reading import RunKey, absent_run, find_run
from dstack.server.services.wire.entry import door
from dstack.server.store.rows import fetched
from dstack.server.store.tables import TABLES

CONNECT_S = 20.0


async def open_door(parts: Parts, access: Access, run_name: str, job_num: int, replica_num: int) -> Streams:
    """A connection to the sshd of the job's newest submission: to nothing else on its host. Raises DstackError."""
    job, instance = await _running(parts, access, run_name, job_num, replica_num)
    port = door(job)
    if port is None:
        message = job.session.message if job.session else ""
        raise DstackError(message or f"Nobody can get into {job.spec.name} yet")
    if instance.offer.server_id not in (None, parts.owner):
        raise DstackError("The run is on the machine of another server of this database", hint="ask that server")
    backend = await parts.backends.find(instance.project_id, instance.offer.backend)
    if instance.data is None or not isinstance(backend, OpensPorts):
        raise DstackError(f"Runs of the backend {instance.offer.backend} cannot be entered through the server")
    try:
        async with asyncio.timeout(CONNECT_S):
            return await backend.open_port(instance.token, instance.data, port)
    except TimeoutError:
        raise DstackError("The host of the run does not answer the server in time") from None
    except (BackendError, OSError) as e:
        raise DstackError(f"The server does not reach the run: {e}") from None


async def _running(parts: Parts, access: Access, run_name: str, job_num: int, replica_num: int) -> tuple[Job, Instance]:
    t = TABLES["job"]
    async with parts.database.read() as connection:
        run = await find_run(connection, access.project.id, RunKey(run_name))
        if run is None:
            raise absent_run(run_name)
        jobs = await fetch(
            connection, Job, t.c.run_id == run.id, t.c.job_num == job_num, t.c.replica_num == replica_num
        )
        job = max(jobs, key=lambda one: one.submission_num, default=None)
        if job is None or not job.enterable or job.instance_id is None:
            raise DstackError(f"Run {run_name} has no such job that runs")
        return job, await fetched(connection, Instance, job.instance_id)
