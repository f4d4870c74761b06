"""Backends of a project: configured through the API and the server's file, used for offers, hidden from old clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dstack.clock import WallClock
from dstack.model.configurations.server_config import ServerConfig, read_server_config
from dstack.server.app import running
from dstack.server.services import backends_file
from dstack.server.services.rows import insert_rows
from dstack.server.settings import Rules, Settings
from dstack.server.store.tables import backend, project
from support import builders
from support.http_api import Api, fleet, under

SIM: dict[str, Any] = {
    "type": "sim",
    "run": "pretend",
    "offers": [{"instance_type": "one", "price": 1.5, "spot_price": 0.5}],
}


async def prices(api: Api) -> list[float]:
    plan = await api.call("fleets/get_plan", {"spec": fleet(backends=["sim"], spot_policy="auto")})
    return [offer["price"] for offer in plan["offers"]]


async def test_no_type_that_released_clients_know_can_be_configured_yet(api: Api) -> None:
    assert await api.call("/api/backends/list_types") == []


async def test_a_created_backend_offers_at_once_and_a_deleted_one_no_more(api: Api) -> None:
    assert await prices(api) == []
    created = await api.call("backends/create", SIM)
    assert created["x_config"] == SIM
    assert await prices(api) == [0.5, 1.5]
    await api.call("backends/delete", {"backends_names": ["sim"]})
    assert await prices(api) == []


async def test_an_updated_backend_offers_what_it_has_now(api: Api) -> None:
    await api.call("backends/create", SIM)
    await prices(api)
    await api.call("backends/update", SIM | {"offers": [{"instance_type": "two", "price": 7}]})
    assert await prices(api) == [7]


async def test_gpus_of_the_size_that_are_too_expensive_are_not_said_to_be_missing(api: Api) -> None:
    l4 = {"instance_type": "l4", "price": 1.5, "gpu": "L4:24GB:1"}
    await api.call("backends/create", SIM | {"offers": [l4]})

    async def told(gpu: str, max_price: float) -> list[str]:
        spec = fleet(backends=["sim"], resources={"gpu": gpu}, max_price=max_price)
        return (await api.call("fleets/get_plan", {"spec": spec}))["x_notices"]

    assert await told("24GB", 1) == []
    assert [line.partition(":")[0] for line in await told("16GB", 2)] == ["resources.gpu"]


async def test_a_backend_belongs_to_one_project_alone(api: Api) -> None:
    await api.call("backends/create", SIM)
    await api.call("/api/projects/create", {"project_name": "other"})
    assert await prices(api.having(api.token, "other")) == []


async def test_projects_do_not_show_backends_that_released_clients_do_not_know(api: Api) -> None:
    await api.call("backends/create", SIM)
    shown = [await api.call("/api/projects/main/get"), *await api.call("/api/projects/list")]
    assert [(one["backends"], one["x_backends"]) for one in shown] == [([], ["sim"]), ([], ["sim"])]


async def test_a_backend_is_written_and_read_back_as_yaml(api: Api) -> None:
    await api.call("backends/create_yaml", {"config_yaml": "type: sim\nrun: pretend\nstock: 3\n"})
    shown = await api.call("backends/sim/get_yaml")
    assert shown["name"] == "sim" and "run: pretend" in shown["config_yaml"]
    await api.call("backends/update_yaml", {"config_yaml": shown["config_yaml"].replace("pretend", "process")})
    assert (await api.call("backends/sim/config_info"))["x_config"]["run"] == "process"


TYPED = """type: sim
run: pretend
seed: 7
stock: 3
offers:
- instance_type: '3'
  price: 1.5
  spot_price: '0.5'
"""


async def test_numbers_and_text_of_a_configuration_come_back_as_they_were_written(api: Api) -> None:
    await api.call("backends/create_yaml", {"config_yaml": TYPED})
    assert (await api.call("backends/sim/get_yaml"))["config_yaml"] == TYPED
    config = (await api.call("backends/sim/config_info"))["x_config"]
    assert (config["stock"], config["offers"]) == (3, [{"instance_type": "3", "price": 1.5, "spot_price": "0.5"}])
    assert await prices(api) == [0.5, 1.5]


async def test_numbers_of_the_servers_file_are_stored_as_numbers(api: Api) -> None:
    await backends_file.apply(api.parts, from_file(TWO_DOLLARS))
    config = (await api.call("backends/sim/config_info"))["x_config"]
    assert config["offers"] == [{"instance_type": "a", "price": 2}]


REFUSED = [
    ("backends/create", {"type": "aws", "creds": {"type": "default"}}, "aws is not supported"),
    ("backends/create", {"type": "local"}, "belongs to the server"),
    ("backends/create", {}, "type"),
    ("backends/create", SIM | {"runn": "x"}, "runn"),
    ("backends/create_yaml", {"config_yaml": "type: [sim"}, "config_yaml"),
    ("backends/create_yaml", {"config_yaml": "- sim"}, "config_yaml"),
    ("backends/update", SIM, "has no backend sim"),
    ("backends/delete", {"backends_names": ["sim"]}, "has no backend sim"),
    ("backends/aws/config_info", None, "has no backend aws"),
]


@pytest.mark.parametrize(("path", "body", "words"), REFUSED)
async def test_what_cannot_be_done_is_refused_in_words(api: Api, path: str, body: Any, words: str) -> None:
    answer = await api.call(path, body, status=400)
    assert words in answer["detail"][0]["msg"]


async def test_a_backend_that_is_there_already_is_not_created_again(api: Api) -> None:
    await api.call("backends/create", SIM)
    assert (await api.call("backends/create", SIM, status=400))["detail"][0]["code"] == "resource_exists"


USING_THE_SERVER = ({"type": "sim"}, {"type": "sim", "run": "process"}, SIM | {"folder": "/var/lib/anywhere"})


@pytest.mark.parametrize("config", USING_THE_SERVER)
async def test_the_servers_machine_is_given_to_projects_by_its_admins_only(api: Api, config: dict[str, Any]) -> None:
    async with under(api, Rules(), local_backend=False) as admin:
        kim = await admin.user("kim", "admin")
        assert "server's machine" in (await kim.call("backends/create", config, status=403))["hint"]
        await kim.call("backends/create", SIM)
        await kim.call("backends/update", config, status=403)
        assert (await admin.call("backends/update", config))["x_config"] == config


async def test_where_jobs_run_on_the_servers_machine_anyway_a_project_may_configure_it(api: Api) -> None:
    kim = await api.user("kim", "admin")
    await kim.call("backends/create", {"type": "sim"})


@pytest.mark.parametrize("role", ["manager", "user"])
async def test_only_admins_of_the_project_see_and_change_backends(api: Api, role: str) -> None:
    await api.call("backends/create", SIM)
    other = await api.user("kim", role)
    for path, body in (("create", SIM), ("delete", {"backends_names": ["sim"]}), ("sim/get_yaml", None)):
        await other.call(f"backends/{path}", body, status=403)


async def test_a_backend_with_instances_cannot_be_deleted(api: Api) -> None:
    await api.call("backends/create", SIM)
    await _instance(api)
    answer = await api.call("backends/delete", {"backends_names": ["sim"]}, status=400)
    assert "sim has 1" in answer["detail"][0]["msg"] and "fleet" in answer["hint"]
    assert await prices(api) == [0.5, 1.5]


async def test_configurations_are_not_readable_in_the_database(api: Api) -> None:
    await api.call("backends/create", SIM | {"offers": [{"instance_type": "canary-4711", "price": 1}]})
    async with api.parts.database.read() as connection:
        stored = (await connection.execute(select(backend))).one()
    assert stored.type == "sim" and b"canary-4711" not in stored.config
    folder = api.parts.settings.sqlite_path.parent
    assert not any(b"canary-4711" in file.read_bytes() for file in folder.iterdir())


TWO_DOLLARS = "{type: sim, offers: [{instance_type: a, price: 2}]}"


def from_file(*backends: str, project: str = "main") -> ServerConfig:
    lines = "".join(f"  - {one}\n" for one in backends) or "    []\n"
    return read_server_config(f"projects:\n- name: {project}\n  backends:\n{lines}", "config.yml")


async def test_the_servers_file_creates_changes_and_removes_backends(api: Api) -> None:
    await backends_file.apply(api.parts, from_file(TWO_DOLLARS))
    assert await prices(api) == [2]
    await backends_file.apply(api.parts, from_file("{type: sim, offers: [{instance_type: a, price: 3}]}"))
    assert await prices(api) == [3]
    await backends_file.apply(api.parts, from_file())
    assert await prices(api) == []


async def test_the_servers_file_leaves_backends_of_the_api_alone(api: Api) -> None:
    await api.call("backends/create", SIM)
    await backends_file.apply(api.parts, from_file())
    assert await prices(api) == [0.5, 1.5]


async def test_a_backend_with_instances_stays_although_the_file_names_it_no_more(api: Api) -> None:
    await backends_file.apply(api.parts, from_file(TWO_DOLLARS))
    await _instance(api)
    await backends_file.apply(api.parts, from_file())
    assert await prices(api) == [2]


async def test_the_servers_file_creates_projects(api: Api) -> None:
    await backends_file.apply(api.parts, from_file("{type: sim}", project="research"))
    assert len(await prices(api.having(api.token, "research"))) > 3


async def test_a_wrong_backend_in_the_file_is_left_out_and_the_others_are_made(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    await backends_file.apply(api.parts, from_file("{type: aws}", TWO_DOLLARS))
    assert await prices(api) == [2]
    assert "backend aws of project main was left as it is" in caplog.text


async def test_the_file_is_made_at_the_first_start_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "server", local_backend=False)
    async with running(settings, WallClock()):
        pass
    file = settings.data_dir / "config.yml"
    assert "name: main" in file.read_text() and file.stat().st_mode & 0o777 == 0o600
    file.write_text("projects:\n- name: main\n  backends:\n  - type: sim\n")
    async with running(settings, WallClock()) as server:
        async with server.parts.database.read() as connection:
            id_ = (await connection.execute(select(project.c.id))).scalar_one()
        assert len(await server.parts.offers.all(id_)) > 40


async def _instance(api: Api) -> None:
    """A fleet with one instance of the project's sim, as placement would have made it."""
    made = await api.call("fleets/apply", {"plan": {"spec": fleet()}, "force": False})
    project_id = (await api.call("/api/projects/main/get"))["project_id"]
    row = builders.instance(project_id=project_id, fleet_id=made["id"], offer=builders.offer(backend="sim"))
    async with api.parts.database.write() as connection:
        await insert_rows(connection, [row], 1.0)
