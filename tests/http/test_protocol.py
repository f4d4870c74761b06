"""The frame of the API: versions, error bodies, unknown paths and fields."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from dstack.backends.base import Backend
from dstack.model.wire.requests import ListEvents
from dstack.server.app import http_app
from dstack.server.services.offers import OffersService
from support.http_api import TOKEN, Api, task


@pytest.mark.parametrize(
    "version", ["0.22.5", "0.22.99", "0.21.0", "0.19", "latest", "0.0.0", "0.0.0.dev1", "0.22.5rc1"]
)
async def test_clients_that_are_not_newer_are_served(api: Api, version: str) -> None:
    await api.call("/api/server/get_info", headers={"X-API-VERSION": version})


@pytest.mark.parametrize("version", ["0.23.0", "1.0.0", "0.23"])
async def test_a_newer_client_is_told_both_versions(api: Api, version: str) -> None:
    answer = await api.call("/api/server/get_info", headers={"X-API-VERSION": version}, status=400)
    message = f"The client/CLI version ({version}) is incompatible with the server version (0.22.5)."
    assert answer == {"detail": [{"msg": message, "code": "error"}]}


async def test_a_newer_client_may_use_what_is_not_the_api(api: Api) -> None:
    await api.call("/healthcheck", method="GET", headers={"X-API-VERSION": "0.23.0"})


async def test_a_version_that_is_none_is_refused_everywhere(api: Api) -> None:
    answer = await api.call("/healthcheck", method="GET", headers={"X-API-VERSION": "abc"}, status=400)
    assert answer == {"detail": [{"msg": "Invalid version: abc", "code": None}]}


async def test_the_server_says_which_api_it_speaks_without_a_token(api: Api) -> None:
    nobody = api.having(None)
    assert (await nobody.call("/api/server/get_info"))["server_version"] == "0.22.5"
    assert await nobody.call("/api/auth/list_providers") == []
    assert await nobody.call("/healthcheck", method="GET") == {"status": "running"}


async def test_unknown_paths_are_answered_as_clients_expect(api: Api) -> None:
    assert (await api.raw("presets/push", {})).status_code == 405
    assert (await api.raw("/api/nothing", method="GET")).status_code == 404
    assert (await api.raw("/api/users/get_my_user", method="GET")).status_code == 405


async def test_unknown_fields_around_a_configuration_are_ignored(api: Api) -> None:
    body = {"project_name": "main", "invented_by_a_newer_client": {"x": 1}}
    assert await api.call("/api/runs/list", body) == []


async def test_a_list_in_a_request_is_never_longer_than_a_database_takes(api: Api) -> None:
    await api.call("runs/stop", {"runs_names": ["a"] * 40_000, "abort": False}, status=422)
    await api.call("runs/stop", {"runs_names": [f"a{n}" for n in range(10_000)], "abort": False})
    filters = [name for name, field in ListEvents.model_fields.items() if "UUID" in str(field.annotation)]
    lists = {name: [str(UUID(int=n)) for n in range(1000)] for name in filters if not name.startswith("prev_")}
    assert "target_runs" in lists and "within_projects" in lists
    assert await api.call("/api/events/list", lists) == []


async def test_an_unknown_field_in_a_configuration_is_refused_with_the_nearest_one(api: Api) -> None:
    answer = await api.call("runs/get_plan", {"run_spec": task("true", max_pricee=1)}, status=400)
    assert answer["detail"][0]["code"] == "error"
    assert "max_pricee: unknown key" in answer["detail"][0]["msg"]
    assert answer["hint"] == "did you mean `max_price`?"


async def test_an_unknown_field_in_a_profile_is_refused_too(api: Api) -> None:
    spec = task("true") | {"profile": {"name": "p", "max_pricee": 1}}
    answer = await api.call("runs/get_plan", {"run_spec": spec}, status=400)
    assert "max_pricee" in answer["detail"][0]["msg"]


async def test_a_missing_field_is_a_422_that_does_not_repeat_what_was_sent(api: Api) -> None:
    answer = await api.raw("secrets/create_or_update", {"value": "hunter2"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "name"]
    assert "hunter2" not in answer.text


async def test_a_body_that_is_no_json_is_a_422(api: Api) -> None:
    response = await api.raw("runs/get", content=b"{nonsense", headers={"Content-Type": "application/json"})
    assert response.status_code == 422


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
async def test_text_that_no_database_can_hold_is_refused(api: Api, text: str) -> None:
    body = b'{"run_spec": {"repo_id": %s, "configuration": {"type": "task", "commands": ["true"]}}}'
    content = body % json.dumps(text).encode()
    response = await api.raw("runs/get_plan", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text


async def test_a_request_that_met_another_one_in_the_database_may_be_asked_again(api: Api) -> None:
    class Crossed(OffersService):
        async def all(self, project_id: str):
            raise DBAPIError("UPDATE", None, asyncpg.DeadlockDetectedError("deadlock detected"))

    backends: dict[str, Backend] = {}
    parts = replace(api.parts, offers=Crossed(backends, api.parts.clock))
    transport = httpx.ASGITransport(app=http_app(parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        answer = await Api(http, parts, TOKEN).raw("runs/get_plan", {"run_spec": task("true")})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] and answer.json()["hint"].startswith("nothing was changed")


async def test_an_unforeseen_failure_is_a_numbered_500_and_its_values_stay_out_of_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(OffersService):
        async def all(self, project_id: str):
            raise ValueError(f"hunter{2} in a message")

    backends: dict[str, Backend] = {}
    parts = replace(api.parts, offers=Broken(backends, api.parts.clock))
    transport = httpx.ASGITransport(app=http_app(parts), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        with caplog.at_level(logging.ERROR):
            broken = Api(http, parts, TOKEN)
            answer = await broken.call("runs/get_plan", {"run_spec": task("true")}, status=500)
    incident = answer["detail"][0]["msg"].split("incident ")[1].rstrip(")")
    assert incident in caplog.text
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text
