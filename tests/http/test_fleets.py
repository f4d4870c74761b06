"""Fleets and instances: plan, create, change, list, delete."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select

from dstack.control.fleet.instances import new_instance
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.job import Job, JobStatus
from dstack.server.services.rows import change_rows, fetch, insert_rows
from dstack.server.store.rows import row as row_of
from dstack.server.store.tables import TABLES, act
from support.http_api import Api, fleet, task


async def make(api: Api, current: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return await api.call(
        "fleets/apply", {"plan": {"spec": fleet(**fields), "current_resource": current}, "force": False}
    )


async def add_instance(api: Api, made: dict[str, Any]) -> Instance:
    """What the engine would have decided and done."""
    offers = await api.parts.offers.all("")
    async with api.parts.database.write() as connection:
        row = (await fetch(connection, Fleet, TABLES["fleet"].c.id == made["id"]))[0]
        instance = new_instance(row, offers[0], 1, idle_duration_s=60.0, now=1.0)
        await insert_rows(connection, [instance], 1.0)
        await change_rows(connection, Fleet, [row.id], next_instance_num=row.next_instance_num + 1)
        await change_rows(connection, Instance, [instance.id], status=InstanceStatus.IDLE)
    return instance


async def occupy(api: Api, instance: Instance) -> str:
    """A run whose job is on the instance; answers its name."""
    run = await api.call("runs/apply", {"plan": {"run_spec": task("true", name="busy")}})
    async with api.parts.database.write() as connection:
        job_id = run["latest_job_submission"]["id"]
        await change_rows(connection, Job, [job_id], status=JobStatus.RUNNING, instance_id=instance.id)
        await change_rows(connection, Instance, [instance.id], status=InstanceStatus.BUSY, busy_blocks=1)
    return "busy"


async def test_a_plan_of_a_new_fleet_shows_what_it_could_create(api: Api) -> None:
    plan = await api.call("fleets/get_plan", {"spec": fleet()})
    assert (plan["action"], plan["current_resource"], plan["total_offers"]) == ("create", None, 1)
    assert plan["offers"][0]["x_backend"] == "local"


async def test_a_fleet_is_created_active_and_listed(api: Api) -> None:
    made = await make(api)
    assert (made["status"], made["instances"]) == ("active", [])
    assert await api.call("fleets/list", {"include_imported": True}) == [made]
    assert await api.call("/api/fleets/list", {}) == [made]
    assert await api.call("fleets/get", {"name": "here", "id": None}) == made


async def test_a_fleet_without_a_name_gets_one(api: Api) -> None:
    made = await make(api, name=None)  # type: ignore[arg-type]
    assert made["spec"]["configuration"]["name"] == made["name"]


async def test_the_number_of_nodes_is_changed_in_place(api: Api) -> None:
    made = await make(api)
    plan = await api.call("fleets/get_plan", {"spec": fleet(nodes="1..3")})
    assert plan["action"] == "update"
    changed = await make(api, plan["current_resource"], nodes="1..3")
    assert changed["id"] == made["id"]
    assert changed["spec"]["configuration"]["nodes"] == {"min": 1, "target": 1, "max": 3}


async def test_a_fleet_that_changed_since_the_plan_is_left_alone(api: Api) -> None:
    made = await make(api)
    await make(api, made, nodes="0..3")
    body = {"plan": {"spec": fleet(nodes="0..4"), "current_resource": made}, "force": False}
    answer = await api.call("fleets/apply", body, status=400)
    assert answer["detail"][0]["msg"].startswith("Failed to apply plan. Resource has been changed.")
    forced = await api.call("fleets/apply", body | {"force": True})
    assert forced["spec"]["configuration"]["nodes"]["max"] == 4


async def test_a_placement_cannot_be_changed_in_place(api: Api) -> None:
    made = await make(api)
    spec = fleet(placement="cluster")
    assert (await api.call("fleets/get_plan", {"spec": spec}))["action"] == "create"
    answer = await api.call("fleets/apply", {"plan": {"spec": spec, "current_resource": made}}, status=400)
    assert "placement cannot be changed in place" in answer["detail"][0]["msg"]


async def test_an_ssh_fleet_is_refused_by_name(api: Api) -> None:
    ssh = {"user": "root", "identity_file": "~/.ssh/id", "hosts": ["10.0.0.1"]}
    spec = fleet(nodes=None, ssh_config=ssh)
    assert (await api.call("fleets/get_plan", {"spec": spec}))["x_refusals"][0].startswith("ssh_config:")
    answer = await api.call("fleets/apply", {"plan": {"spec": spec}}, status=400)
    assert answer["detail"][0]["msg"].startswith("ssh_config:")


async def test_instances_are_shown_with_their_fleet_and_their_job(api: Api) -> None:
    made = await make(api)
    instance = await add_instance(api, made)
    await occupy(api, instance)
    shown = (await api.call("fleets/get", {"name": "here"}))["instances"][0]
    assert (shown["name"], shown["status"], shown["job_name"]) == ("here-0", "busy", "busy-0-0")
    assert (shown["backend"], shown["x_backend"]) == ("remote", "local")
    assert await api.call("/api/instances/list", {"project_names": ["main"]}) == [shown]
    assert await api.call("instances/get", {"id": instance.id}) == shown
    checks = {"fleet_name": "here", "instance_num": 0}
    assert await api.call("instances/get_instance_health_checks", checks) == {"health_checks": []}


async def test_a_fleet_in_use_is_not_deleted(api: Api) -> None:
    await occupy(api, await add_instance(api, await make(api)))
    for path, body in (
        ("fleets/delete", {"names": ["here"]}),
        ("fleets/delete_instances", {"name": "here", "instance_nums": [0]}),
    ):
        answer = await api.call(path, body, status=400)
        assert "in use by busy" in answer["detail"][0]["msg"]


async def test_deletion_is_an_intent_and_unknown_names_are_passed_over(api: Api) -> None:
    made = await make(api)
    instance = await add_instance(api, made)
    assert await api.call("fleets/delete_instances", {"name": "here", "instance_nums": [0, 7]}) is None
    assert await api.call("fleets/delete_instances", {"name": "unknown", "instance_nums": [0]}) is None
    assert await api.call("fleets/delete", {"names": ["here", "unknown"]}) is None
    async with api.parts.database.read() as connection:
        row = (await fetch(connection, Fleet, TABLES["fleet"].c.id == made["id"]))[0]
        asked = (await fetch(connection, Instance, TABLES["instance"].c.id == instance.id))[0]
    assert (row.status, row.delete_requested_at is not None) == ("active", True)
    assert asked.terminate_requested == "terminated_by_user"


async def test_why_says_what_an_instance_waits_for(api: Api) -> None:
    made = await make(api)
    instance = await add_instance(api, made)
    async with api.parts.database.write() as connection:
        await change_rows(connection, Instance, [instance.id], status=InstanceStatus.TERMINATING)
    answer = await api.call("fleets/why", {"name": "here"})
    assert answer["instances"][0]["waiting_for"] == "backend local to say that it is gone"
    assert answer["lines"][1].startswith("here-0 is terminating, waits for backend local")
    assert answer["offers"]["fitting"] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("fleets/delete", {"names": ["here"]}), ("fleets/delete_instances", {"name": "here", "instance_nums": [0]})],
)
async def test_a_person_does_not_wait_for_the_unknown_tasks_that_an_instance_waits_for(
    api: Api, path: str, body: dict[str, Any]
) -> None:
    instance, later = await add_instance(api, await make(api)), 1e12
    waits = {"token": "t", "kind": "instance", "resource_id": instance.id, "verb": "terminate_instance"}
    async with api.parts.database.write() as connection:
        going = {"status": InstanceStatus.TERMINATING, "terminate_requested": Reason.IDLE_TIMEOUT}
        await change_rows(connection, Instance, [instance.id], **going)
        await connection.execute(insert(act).values(**waits, payload="{}", created_at=1.0, due_at=later))
    await api.call(path, body)
    assert (await row_of(api.parts.database, Instance, instance.id)).terminate_requested is Reason.TERMINATED_BY_USER
    async with api.parts.database.read() as connection:
        assert (await connection.execute(select(act.c.due_at))).scalar_one() < later
    said = [one["message"] for one in await api.call("/api/events/list", {})]
    assert any("deletion requested" in one for one in said)
