"""Fleets that are asked for again: what was made for an earlier answer is used, and never shows what has changed."""

from __future__ import annotations

from typing import Any

from dstack.control.fleet.instances import new_instance
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobStatus
from dstack.server.services.fleets.reading import render
from dstack.server.services.fleets.showing import MADE_AT_ONCE
from dstack.server.services.rows import change_rows, fetch, insert_rows
from dstack.server.services.wire.encoding import encoded_list
from dstack.server.store.kept import Kept
from dstack.server.store.tables import TABLES
from dstack.server.store.trouble import Trouble
from support.http_api import Api, fleet, task


async def a_fleet(api: Api, count: int, name: str = "here") -> list[str]:
    """A fleet with so many idle instances; their ids, by number."""
    made = await api.call("fleets/apply", {"plan": {"spec": fleet(name=name)}, "force": False})
    offers = await api.parts.offers.all("")
    async with api.parts.database.write() as connection:
        row = (await fetch(connection, Fleet, TABLES["fleet"].c.id == made["id"]))[0]
        rows = []
        for _ in range(count):
            rows.append(new_instance(row, offers[0], 1, idle_duration_s=60.0, now=1.0))
            row = row.replace(next_instance_num=row.next_instance_num + 1)
        await insert_rows(connection, rows, 1.0)
        await change_rows(connection, Instance, [one.id for one in rows], status=InstanceStatus.IDLE)
    return [one.id for one in rows]


async def occupy(api: Api, instance_id: str, *run_names: str) -> list[str]:
    """Jobs of new runs, placed on the instance; their ids."""
    ids = []
    for name in run_names:
        run = await api.call("runs/apply", {"plan": {"run_spec": task("true", name=name)}})
        ids.append(run["latest_job_submission"]["id"])
    async with api.parts.database.write() as connection:
        await change_rows(connection, Job, ids, status=JobStatus.RUNNING, instance_id=instance_id)
        busy = {"status": InstanceStatus.BUSY, "busy_blocks": len(ids)}
        await change_rows(connection, Instance, [instance_id], **busy)
    return ids


async def end(api: Api, job_id: str, instance_id: str, busy_blocks: int) -> None:
    """As the engine does it: a job that ends gives its blocks back by the same commit."""
    async with api.parts.database.write() as connection:
        await change_rows(connection, Job, [job_id], status=JobStatus.DONE)
        await change_rows(connection, Instance, [instance_id], busy_blocks=busy_blocks)


async def instances(api: Api) -> list[dict[str, Any]]:
    return (await api.call("fleets/list"))[0]["instances"]


async def change(api: Api, cls: type, id_: str, **fields: Any) -> None:
    async with api.parts.database.write() as connection:
        await change_rows(connection, cls, [id_], **fields)


async def test_an_instance_that_changed_is_shown_as_it_is_now(api: Api) -> None:
    ids = await a_fleet(api, 3)
    before = await instances(api)
    await change(api, Instance, ids[1], unreachable_since=5.0)
    after = await instances(api)
    assert [one["unreachable"] for one in after] == [False, True, False]
    assert (after[0], after[2]) == (before[0], before[2])


async def test_a_job_that_ended_is_not_shown_any_more(api: Api) -> None:
    ids = await a_fleet(api, 1)
    (job_id,) = await occupy(api, ids[0], "busy")
    assert (await instances(api))[0]["x_runs"] == ["busy"]
    await end(api, job_id, ids[0], 0)
    assert (await instances(api))[0]["x_runs"] == []


async def test_jobs_of_an_instance_are_shown_in_the_order_they_were_submitted_in(api: Api) -> None:
    ids = await a_fleet(api, 1)
    job_ids = await occupy(api, ids[0], "b", "a", "c")
    assert (await instances(api))[0]["job_name"] == "b-0-0, a-0-0, c-0-0"
    await end(api, job_ids[1], ids[0], 2)
    assert (await instances(api))[0]["job_name"] == "b-0-0, c-0-0"


async def test_a_job_follows_another_on_an_instance(api: Api) -> None:
    ids = await a_fleet(api, 1)
    (job_id,) = await occupy(api, ids[0], "first")
    assert (await instances(api))[0]["x_runs"] == ["first"]
    await end(api, job_id, ids[0], 0)
    await occupy(api, ids[0], "second")
    assert (await instances(api))[0]["x_runs"] == ["second"]


async def test_an_instance_that_is_gone_is_not_listed_any_more(api: Api) -> None:
    ids = await a_fleet(api, 2)
    assert [one["id"] for one in await instances(api)] == ids
    await change(api, Instance, ids[0], status=InstanceStatus.TERMINATED)
    assert [one["id"] for one in await instances(api)] == [ids[1]]


async def test_a_second_answer_is_byte_for_byte_what_is_made_from_nothing(api: Api) -> None:
    first = await a_fleet(api, 3)
    await occupy(api, first[1], "busy", "too")
    await a_fleet(api, 2, "there")
    asked = [await api.raw("fleets/list") for _ in range(2)]
    await change(api, Instance, first[2], unreachable_since=5.0)
    asked += [await api.raw("fleets/list") for _ in range(2)]
    async with api.parts.database.read() as connection:
        t = TABLES["fleet"].c
        fleets = await fetch(connection, Fleet, order=(t.created_at, t.id))
        names = {one.project_id: "main" for one in fleets}
        fresh = encoded_list(await render(connection, fleets, names, Kept(Trouble())))
    assert asked[0].content == asked[1].content != asked[2].content
    assert asked[2].content == asked[3].content == b"".join(fresh.pieces)
    assert int(asked[3].headers["content-length"]) == len(asked[3].content)


async def test_thousands_of_instances_come_in_the_order_of_their_numbers(api: Api) -> None:
    ids = await a_fleet(api, 2 * MADE_AT_ONCE + 1)
    await change(api, Instance, ids[MADE_AT_ONCE], unreachable_since=5.0)
    for _ in range(2):
        shown = await instances(api)
        assert [one["id"] for one in shown] == ids
        assert [one["id"] for one in shown if one["unreachable"]] == [ids[MADE_AT_ONCE]]


async def test_a_fleet_and_its_plan_show_what_the_list_shows(api: Api) -> None:
    await occupy(api, (await a_fleet(api, 2))[0], "busy")
    listed = (await api.call("fleets/list"))[0]
    assert await api.call("fleets/get", {"name": "here", "id": None}) == listed
    assert (await api.call("fleets/get_plan", {"spec": fleet()}))["current_resource"] == listed
    cordoned = await api.call("fleets/cordon", {"name": "here", "instance_nums": [1], "cordon": "cordoned"})
    assert [one["x_cordon"] for one in cordoned["instances"]] == [None, "cordoned"]
    assert (await api.call("fleets/list"))[0] == cordoned
