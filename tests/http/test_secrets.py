"""Secrets: sealed at rest, shown to managers, resolved for jobs."""

from __future__ import annotations

from sqlalchemy import select

from dstack.server.services.secrets import resolve_secrets
from dstack.server.store.tables import secret
from support.http_api import Api

CANARY = "canary-4711"


async def save(api: Api, name: str, value: str = CANARY, status: int = 200):
    return await api.call("secrets/create_or_update", {"name": name, "value": value}, status=status)


async def test_a_secret_is_listed_without_its_value_and_got_with_it(api: Api) -> None:
    made = await save(api, "HF_TOKEN")
    assert await api.call("secrets/list") == [{"id": made["id"], "name": "HF_TOKEN", "value": None}]
    assert (await api.call("secrets/get", {"name": "HF_TOKEN"}))["value"] == CANARY


async def test_saving_a_secret_again_replaces_its_value(api: Api) -> None:
    first, second = await save(api, "X"), await save(api, "X", "other")
    assert first["id"] == second["id"]
    assert (await api.call("secrets/get", {"name": "X"}))["value"] == "other"


async def test_unknown_secrets_do_not_exist_and_nothing_is_deleted(api: Api) -> None:
    await save(api, "X")
    assert (await api.call("secrets/get", {"name": "Y"}, status=400))["detail"][0]["code"] == "resource_not_exists"
    answer = await api.call("secrets/delete", {"secrets_names": ["X", "Y"]}, status=400)
    assert answer["detail"] == [{"msg": "Secrets not found: Y", "code": "resource_not_exists"}]
    assert len(await api.call("secrets/list")) == 1
    assert await api.call("secrets/delete", {"secrets_names": ["X"]}) is None
    assert await api.call("secrets/list") == []


async def test_an_illegal_name_and_a_huge_value_are_refused_without_repeating_the_value(api: Api) -> None:
    for name, value in (("no good", CANARY), ("X", CANARY * 10_000)):
        assert CANARY not in str(await save(api, name, value, status=400))


async def test_neither_the_database_nor_the_events_hold_a_value_in_clear(api: Api) -> None:
    await save(api, "X")
    async with api.parts.database.read() as connection:
        row = (await connection.execute(select(secret))).one()
    assert CANARY.encode() not in row.value
    events = await api.call("/api/events/list", {})
    assert events[0]["message"] == "Secret created"
    assert CANARY not in str(events)


async def test_a_job_gets_the_secrets_of_its_project_that_exist(api: Api) -> None:
    await save(api, "X")
    project_id = (await api.call("/api/projects/main/get"))["project_id"]
    database, cipher = api.parts.database, api.parts.cipher
    assert await resolve_secrets(database, cipher, project_id, ["X", "Y"]) == {"X": CANARY}
    assert await resolve_secrets(database, cipher, "another-project", ["X"]) == {}
