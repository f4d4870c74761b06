"""Tags that a machine is made with."""

from __future__ import annotations

from dstack.control.fleet.instances import new_instance
from dstack.model.fleet import Fleet
from dstack.model.job import Job
from dstack.server.services.rows import change_rows, insert_rows
from dstack.server.store.rows import ordered, row
from support.builders import offer, place_on
from support.http_api import Api, fleet, task


async def test_a_machine_carries_the_tags_of_its_fleet_and_of_the_run_that_it_is_made_for(api: Api) -> None:
    made = await api.call("fleets/apply", {"plan": {"spec": fleet(tags={"team": "a", "cost": "1"})}})
    run = await api.call("runs/apply", {"plan": {"run_spec": task(name="t1", tags={"cost": "2"})}})
    database = api.parts.database
    of = await row(database, Fleet, made["id"])
    instance = new_instance(of, offer(), 1, idle_duration_s=None, now=1.0)
    async with database.write() as connection:
        await insert_rows(connection, [instance], 1.0)
    assert (await ordered(database, instance.id)).tags == {"team": "a", "cost": "1"}
    job_id = run["latest_job_submission"]["id"]
    async with database.write() as connection:
        place = place_on(instance, created=True)
        await change_rows(connection, Job, [job_id], instance_id=instance.id, place=place)
    assert (await ordered(database, instance.id)).tags == {"team": "a", "cost": "2"}
