"""A real server in virtual time whose provider or whose database fails for long: what waits goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dstack.server.app import running
from support.http_api import Api, client_of, task
from support.story import settings_of
from support.virtual_time import VirtualClock, in_virtual_time, virtual_loop
from support.watching import VirtualDatabase

FLEET = {"configuration": {"type": "fleet", "name": "f", "nodes": "0..1", "idle_duration": "2h"}}
PATIENCE_S = 1800.0


@asynccontextmanager
async def server(folder: Path, **sim: Any) -> AsyncIterator[Api]:
    settings = settings_of(folder / "server", folder / "cloud", sim)
    clock = VirtualClock(virtual_loop())
    async with running(settings, clock, database_class=VirtualDatabase) as one, client_of(one.parts) as http:
        yield Api(http, one.parts)


async def until(holds: Callable[[], Any]) -> None:
    """Ask again each virtual second until the answer is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            await asyncio.sleep(1.0)


def machines(folder: Path) -> list[str]:
    return sorted(file.stem for file in (folder / "cloud" / "machines").glob("[!.]*.json"))


async def instances(api: Api) -> list[str]:
    return [one["status"] for one in (await api.call("fleets/get", {"name": "f"}))["instances"]]


async def orphans(api: Api) -> list[dict[str, Any]]:
    return await api.call("/api/server/orphans/list")


def ends(api: Api, verb: str, outcome: str) -> int:
    """How often acts of that verb ended so."""
    labels = {"verb": verb, "outcome": outcome}
    return int(api.parts.meter.registry.get_sample_value("dstack_acts_ended_total", labels) or 0)


async def _abandoned(folder: Path) -> None:
    # The provider ends no machine until it was asked in vain many times.
    async with server(folder, pretend={"duration": 5}, failures=[{"kind": "terminate_fails", "times": 12}]) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        await api.call("runs/apply", {"plan": {"run_spec": task(name="r")}})
        await until(lambda: _is(api, ["idle"]))
        (token,) = machines(folder)
        await api.call("fleets/delete_instances", {"name": "f", "instance_nums": [0]})
        await asyncio.sleep(90)
        assert await instances(api) == ["terminating"]
        await api.call("fleets/delete_instances", {"name": "f", "instance_nums": [0], "x_abandon": True})
        await until(lambda: _is(api, []))
        assert machines(folder) == [token], "closed, though the provider still has it"
        (orphan,) = await orphans(api)
        assert (orphan["token"], orphan["origin"]) == (token, "abandoned")
        await api.call("/api/server/orphans/terminate", {"token": token})
        await until(lambda: _no_orphans(api))
        assert machines(folder) == []


async def _away(folder: Path) -> None:
    """The machine is made while nobody can write so."""
    async with server(folder, pretend={"duration": 5}, delays={"create": 20}) as api:
        database = api.parts.settings.sqlite_path
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        await api.call("runs/apply", {"plan": {"run_spec": task(name="r")}})
        await until(lambda: _made(folder))
        database.rename(database.with_suffix(".away"))
        await asyncio.sleep(60)
        assert (await api.raw("runs/apply", {"plan": {"run_spec": task(name="refused")}})).status_code == 503
        database.with_suffix(".away").rename(database)
        await until(lambda: _run_is(api, "done"))
        assert len(machines(folder)) == 1
        assert (ends(api, "create_instance", "done"), ends(api, "create_instance", "again")) == (1, 0)


async def _is(api: Api, statuses: list[str]) -> bool:
    return [one for one in await instances(api) if one != "terminated"] == statuses


async def _no_orphans(api: Api) -> bool:
    return not await orphans(api)


async def _made(folder: Path) -> bool:
    return bool(machines(folder))


async def _run_is(api: Api, status: str) -> bool:
    return (await api.call("runs/get", {"run_name": "r"}))["status"] == status


def test_an_abandoned_instance_is_closed_its_machine_stays_listed_and_can_be_ended_later(tmp_path: Path):
    in_virtual_time(_abandoned(tmp_path))


def test_what_was_done_while_the_database_was_away_is_recorded_when_it_is_back_and_not_done_again(tmp_path: Path):
    in_virtual_time(_away(tmp_path))
