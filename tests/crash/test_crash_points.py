"""The server dies at each step of a run's life: before a commit, after it, after an effect, before an observation.

The real server, store, engine and agent; the next server finds everything and ends it, nothing runs twice, nothing of
the log is lost and no machine is left.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dstack.clock import WallClock
from dstack.server.app import running
from dstack.server.settings import Settings
from support import postgres
from support.dying import Fate, classes, until_it_dies
from support.http_api import TOKEN, Api, FirstStart, client_of, ended, first_start, gone, reached, settings_in, task

FLEET = {"configuration": {"type": "fleet", "name": "f", "nodes": "0..2"}}
DEADLINE_S = 60.0
LINES = 5

RUN = (
    "commit:queue:before",
    "commit:queue:after",
    "commit:create_instance:after",
    "claim_acts:create_instance:after",
    "finish_act:create_instance:before",
    "finish_act:create_instance:after",
    "observe:link_up:before",
    "observe:link_up:after",
    "commit:start_task:after",
    "finish_act:start_task:before",
    "finish_act:start_task:after",
    "observe:running:after",
    "observe:exited:before",
    "observe:exited:after",
    "commit:remove_task:after",
    "claim_acts:remove_task:after",
    "finish_act:remove_task:before",
    "finish_act:remove_task:after",
)
STOP = (
    "commit:stop_task:before",
    "commit:stop_task:after",
    "claim_acts:stop_task:after",
    "finish_act:stop_task:before",
    "finish_act:stop_task:after",
)
DELETION = (
    "commit:fleet:before",
    "commit:fleet:after",
    "commit:terminate_instance:before",
    "commit:terminate_instance:after",
    "claim_acts:terminate_instance:after",
    "finish_act:terminate_instance:before",
    "finish_act:terminate_instance:after",
)
ON_POSTGRESQL = (
    "commit:queue:before",
    "commit:create_instance:after",
    "finish_act:create_instance:before",
    "finish_act:start_task:before",
    "observe:exited:before",
    "finish_act:remove_task:after",
)


@pytest.fixture(scope="module")
def postgresql_server() -> Iterator[str]:
    with postgres.running() as server:
        yield server


@pytest.mark.parametrize("point", RUN)
async def test_a_run_outlives_its_server(tmp_path: Path, first_started: FirstStart, point: str):
    shutil.copytree(first_started.folder, tmp_path / "server")
    await _a_run_outlives_its_server(settings_in(tmp_path / "server"), tmp_path, point)


@pytest.mark.parametrize("point", ON_POSTGRESQL)
async def test_a_run_outlives_its_server_on_postgresql(tmp_path: Path, postgresql_server: str, point: str):
    first = await asyncio.to_thread(first_start, tmp_path / "server", postgresql_server)
    await _a_run_outlives_its_server(settings_in(first.folder, first.database_url), tmp_path, point)


@pytest.mark.parametrize("point", STOP)
async def test_a_stop_outlives_its_server(tmp_path: Path, first_started: FirstStart, point: str):
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings = settings_in(tmp_path / "server")

    async def first_life() -> None:
        async with _server(settings, fate := Fate(point)) as api:
            await api.call("fleets/apply", {"plan": {"spec": FLEET}})
            await api.call("runs/apply", {"plan": {"run_spec": task("echo up; sleep 4242", name="r")}})
            await reached(api, "r", "running")
            fate.armed = True
            await api.call("runs/stop", {"runs_names": ["r"], "abort": False})
            await asyncio.sleep(DEADLINE_S)

    await until_it_dies(first_life())
    async with _server(settings) as api:
        run = await ended(api, "r")
        assert (run["status"], run["termination_reason"]) == ("terminated", "stopped_by_user")
        await _nothing_is_left(api, settings)


@pytest.mark.parametrize("point", DELETION)
async def test_the_deletion_of_a_fleet_outlives_its_server(tmp_path: Path, first_started: FirstStart, point: str):
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings = settings_in(tmp_path / "server")

    async def first_life() -> None:
        async with _server(settings, fate := Fate(point)) as api:
            spec = {"configuration": {**FLEET["configuration"], "nodes": 1}}
            await api.call("fleets/apply", {"plan": {"spec": spec}})
            await _idle(api)
            await _quiet(api)
            fate.armed = True
            await api.call("fleets/delete", {"names": ["f"]})
            await asyncio.sleep(DEADLINE_S)

    await until_it_dies(first_life())
    async with _server(settings) as api:
        await _nothing_is_left(api, settings)


async def _a_run_outlives_its_server(settings: Settings, folder: Path, point: str) -> None:
    command = f'echo start >> {folder}/starts; for i in $(seq 1 {LINES}); do echo "line $i"; done; exit 5'

    async def first_life() -> None:
        async with _server(settings, fate := Fate(point)) as api:
            await api.call("fleets/apply", {"plan": {"spec": FLEET}})
            await _quiet(api)
            fate.armed = True
            await api.call("runs/apply", {"plan": {"run_spec": task(command, name="r")}})
            await asyncio.sleep(DEADLINE_S)

    await until_it_dies(first_life())
    async with _server(settings) as api:
        run = await ended(api, "r")
        assert run["latest_job_submission"]["exit_status"] == 5
        assert (folder / "starts").read_text() == "start\n"
        log = await api.call(
            "logs/poll", {"run_name": "r", "job_submission_id": run["latest_job_submission"]["id"], "limit": 100}
        )
        assert _text(log) == "".join(f"line {i}\n" for i in range(1, LINES + 1))
        await _nothing_is_left(api, settings)


@contextlib.asynccontextmanager
async def _server(settings: Settings, fate: Fate | None = None) -> AsyncIterator[Api]:
    dying = classes(fate) if fate is not None else {}
    async with running(settings, WallClock(), **dying) as server, client_of(server.parts) as http:
        yield Api(http, server.parts, TOKEN)


async def _quiet(api: Api) -> None:
    """Until nothing is left to decide."""
    quiet = 0
    async with asyncio.timeout(DEADLINE_S):
        while quiet < 3:  # a row that is being decided just now is not due
            await asyncio.sleep(0.05)
            due = await api.parts.store.next_due()
            quiet = quiet + 1 if due is None or due > api.parts.clock.now() + 1.0 else 0


async def _idle(api: Api) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            instances = (await api.call("fleets/get", {"name": "f"}))["instances"]
            if instances and instances[0]["status"] == "idle":
                return
            await asyncio.sleep(0.02)


async def _nothing_is_left(api: Api, settings: Settings) -> None:
    fleet = await api.raw("fleets/get", {"name": "f"})
    if fleet.status_code == 200:
        async with asyncio.timeout(DEADLINE_S):
            await api.call("fleets/delete", {"names": ["f"]})
            await gone(api, fleet.json()["id"])
    assert list((settings.data_dir / "local").iterdir()) == []


def _text(log: dict) -> str:
    return b"".join(base64.b64decode(one["message"]) for one in log["logs"]).decode()
