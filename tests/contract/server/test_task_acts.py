"""Acts on tasks, carried out on a real agent: what a second run of them, or a forced one, does."""

from __future__ import annotations

import asyncio

from dstack.model.instance import InstanceStatus
from dstack.model.job import JobArchive, JobStatus
from dstack.model.observation import TaskAccepted, TaskRefused, TaskRemoved
from dstack.model.row import Ref
from dstack.server.effects.acts import Done
from dstack.server.services.rows import change_rows
from dstack.server.store.acts import ClaimedAct
from support.live_host import Host


def act_of(job_id: str, verb: str, *, fence: int = 1, **payload: object) -> ClaimedAct:
    return ClaimedAct(Ref("job", job_id), verb, f"{verb}-{job_id}", payload, 0, 1.0, "me", fence)


def seen(outcome: object) -> list[type]:
    assert isinstance(outcome, Done), outcome
    return [type(observation) for _, observation in outcome.seen]


async def test_a_forced_removal_ends_a_task_whose_stop_never_reached_the_host(host: Host):
    job = await host.job("stuck", commands=["sleep 4242"])
    async with host.linked():
        await host.effects.start(act_of(job.id, "start_task"))
        await host.until(lambda: _runs(host, job.id))
        await host.set_status(job, JobStatus.FAILED)

        async with asyncio.timeout(60):
            outcome = await host.effects.remove(act_of(job.id, "remove_task", force=True))

        assert seen(outcome) == [TaskRemoved]
        assert await host.tasks() == {}


async def test_a_refused_start_counts_as_accepted_when_an_earlier_try_may_have_reached_the_host(host: Host):
    job = await host.job("lost-archive")
    spec = job.spec.model_copy(update={"archives": (JobArchive(hash="0" * 64, path="."),)})
    async with host.database.write() as connection:
        await change_rows(connection, type(job), [job.id], spec=spec)

    assert seen(await host.effects.start(act_of(job.id, "start_task"))) == [TaskRefused]
    assert seen(await host.effects.start(act_of(job.id, "start_task", fence=2))) == [TaskAccepted, TaskRefused]


async def test_a_start_that_comes_late_does_not_reach_a_machine_that_is_about_to_go(host: Host):
    job = await host.job("late")
    async with host.linked():
        async with host.database.write() as connection:
            await change_rows(connection, type(host.instance), [host.instance.id], status=InstanceStatus.TERMINATING)
        assert seen(await host.effects.start(act_of(job.id, "start_task"))) == []
        assert await host.tasks() == {}


async def _runs(host: Host, job_id: str) -> bool:
    return any('"running"' in heard for heard in await host.heard(job_id))
