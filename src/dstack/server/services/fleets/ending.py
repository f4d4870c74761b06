"""Intents that end fleets and instances. The engine terminates the machines and verifies that they are gone."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control import wording
from dstack.errors import DstackError
from dstack.model.event import Event
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance, InstanceTerminationReason
from dstack.model.job import Job
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.fleets.hosting import hasten
from dstack.server.services.fleets.reading import find_fleet
from dstack.server.services.rows import announce, change_rows, fetch, live
from dstack.server.store.commit import record_events, wake
from dstack.server.store.tables import TABLES

fleet_t, instance_t, job_t = TABLES["fleet"], TABLES["instance"], TABLES["job"]


async def delete(parts: Parts, access: Access, names: Sequence[str], *, abandon: bool = False) -> None:
    """Ask for the end of fleets; unknown ones are passed over. Raises DstackError when runs still use one.

    `abandon`: hosts that do not answer, and machines that cannot be proven gone, are not waited for.
    """
    now = parts.clock.now()
    async with parts.database.write() as connection:
        named = (fleet_t.c.project_id == access.project.id, fleet_t.c.name.in_(sorted(set(names))))
        fleets = await fetch(connection, Fleet, *named, live(Fleet), lock=True)
        instances = await fetch(
            connection, Instance, instance_t.c.fleet_id.in_([one.id for one in fleets]), live(Instance)
        )
        await _check_unused(connection, instances, "fleet")
        asked = [one for one in fleets if one.delete_requested_at is None]
        await _insist(connection, instances, now)
        await change_rows(connection, Fleet, [one.id for one in asked], delete_requested_at=now)
        events = [
            Event("Fleet deletion requested", (wording.target(one),), access.user.id, access.project.id)
            for one in asked
        ]
        events += await _abandon(connection, access, instances, now) if abandon else []
        await record_events(connection, events, now)
        await wake(connection, [one.ref for one in asked], now)
    announce(parts, [one.ref for one in (*asked, *instances)])


async def delete_instances(
    parts: Parts, access: Access, name: str, nums: Sequence[int], *, abandon: bool = False
) -> None:
    """Ask for the end of instances of one fleet; unknown ones are passed over. Raises DstackError when in use."""
    now = parts.clock.now()
    async with parts.database.write() as connection:
        fleet = await find_fleet(connection, access.project.id, name)
        if fleet is None:
            return
        numbered = (instance_t.c.fleet_id == fleet.id, instance_t.c.num.in_(sorted(set(nums))))
        instances = await fetch(connection, Instance, *numbered, live(Instance), lock=True)
        await _check_unused(connection, instances, "instance")
        asked = [one for one in instances if one.terminate_requested is None or one.unneeded]
        await _insist(connection, instances, now)
        await change_rows(
            connection,
            Instance,
            [one.id for one in asked],
            terminate_requested=InstanceTerminationReason.TERMINATED_BY_USER,
            terminate_message=None,
        )
        events = [
            Event("Instance deletion requested", (wording.target(one),), access.user.id, access.project.id)
            for one in asked
        ]
        events += await _abandon(connection, access, instances, now) if abandon else []
        await record_events(connection, events, now)
        await wake(connection, [one.ref for one in asked], now)
    announce(parts, [one.ref for one in instances])


async def _insist(connection: AsyncConnection, instances: Sequence[Instance], now: float) -> None:
    """Instances that go because nobody needed them, and wait for work that is not ours, do not wait any longer."""
    by_user = InstanceTerminationReason.TERMINATED_BY_USER
    going = [one for one in instances if one.unneeded]
    await change_rows(connection, Instance, [one.id for one in going], terminate_requested=by_user)
    await hasten(connection, going, now)


async def _abandon(
    connection: AsyncConnection, access: Access, instances: Sequence[Instance], now: float
) -> list[Event]:
    """Do not wait for hosts to answer, nor for providers to say that machines are gone."""
    asked = [one for one in instances if one.abandon_requested_at is None]
    own = [one for one in asked if one.remote is not None]
    await change_rows(connection, Instance, [one.id for one in asked], abandon_requested_at=now)
    await hasten(connection, own, now)
    await wake(connection, [one.ref for one in asked], now)
    host = "Instance abandoned: if its host does not answer, it keeps the agent and what runs on it"
    machine = "Instance abandoned: its machine may go on and cost money; `dstack server orphans` lists it then"
    return [
        Event(machine if one.remote is None else host, (wording.target(one),), access.user.id, access.project.id)
        for one in asked
    ]


async def _check_unused(connection: AsyncConnection, instances: Sequence[Instance], what: str) -> None:
    on_them = job_t.c.instance_id.in_([one.id for one in instances])
    jobs = await fetch(connection, Job, on_them, live(Job))
    if jobs:
        runs = sorted({job.run_name for job in jobs})
        raise DstackError(f"The {what} is in use by {', '.join(runs)}", hint=f"stop it first: `dstack stop {runs[0]}`")
