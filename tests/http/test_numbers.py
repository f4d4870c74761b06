"""`GET /metrics`: who may see it, and what an operator finds there."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from dstack.server.journal import Json
from dstack.server.store.tables import TABLES, act
from support.http_api import Api, ended, fleet, task

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "operating.md"


def documented() -> set[str]:
    """The names in the page's table; `_x` behind `dstack_engine_y` stands for `dstack_engine_x`."""
    table = PAGE.read_text().partition("| Metric |")[2].partition("\n\n")[0]
    found = set()
    for row in table.splitlines()[2:]:
        names = re.findall(r"`([a-z_]+)", row.split("|")[1])
        stem = "_".join(names[0].split("_")[:2])
        found |= {f"{stem}{name}" if name.startswith("_") else name for name in names}
    return found


async def numbers(api: Api) -> dict[str, float]:
    """Value by name with labels."""
    response = await api.raw("/metrics", method="GET")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_an_admin_of_the_server_sees_the_numbers_and_nobody_else(api: Api) -> None:
    assert "dstack_users" in await numbers(api)
    pia = await api.user("pia", "admin")
    for caller in (pia, api.having(None), api.having("nonsense")):
        assert (await caller.raw("/metrics", method="GET")).status_code == 404


async def test_the_page_for_operators_names_each_number_and_no_other(api: Api) -> None:
    text = (await api.raw("/metrics", method="GET")).text
    assert set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) == documented()


async def test_the_work_of_the_engine_is_counted(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    await live.call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    await ended(live, "t")
    found = await numbers(live)
    assert found['dstack_engine_decisions_total{kind="run"}'] >= 2
    assert found["dstack_engine_commits_total"] >= 5
    assert found['dstack_acts_ended_total{outcome="done",verb="start_task"}'] == 1
    assert found["dstack_engine_turn_seconds_count"] >= 1
    assert found['dstack_host_links{state="up"}'] == 1
    assert found["process_resident_memory_bytes"] > 1e6


async def test_the_log_tells_each_event_and_act_at_debug_with_their_ids(
    live: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dstack.server")
    caplog.handler.setFormatter(Json())
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    await live.call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    run = await ended(live, "t")
    told = [json.loads(line) for line in caplog.text.splitlines()]
    job = run["jobs"][0]["job_submissions"][0]["id"]
    (begun,) = [one for one in told if one["message"] == "[job t-0-0] Job status changed SUBMITTED -> PROVISIONING"]
    assert begun["job"] == job
    (act_,) = [one for one in told if one["message"].startswith(f"act start_task of job {job} took ")]
    assert act_["act"] and act_["job"] == job and act_["run"] == run["id"] and act_["instance"]


async def test_no_series_tells_but_when_the_process_began(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    await live.call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    await ended(live, "t")
    found = await numbers(live)
    assert [name for name in found if name.partition("{")[0].endswith("_created")] == []
    assert found["process_start_time_seconds"] > 0


async def test_what_waits_is_counted_with_its_age(api: Api) -> None:
    await api.call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    now = api.parts.clock.now()
    async with api.parts.database.write() as connection:
        for each in TABLES.values():
            await connection.execute(update(each).values(due_at=now + 1000))
        await connection.execute(update(TABLES["run"]).values(due_at=now - 100))
    row = {"token": "t", "kind": "job", "resource_id": "j", "verb": "stop_task", "payload": "{}", "attempts": 3}
    async with api.parts.database.write() as connection:
        await connection.execute(insert(act).values(**row, created_at=now - 100, due_at=now + 100))
    found = await numbers(api)
    assert found['dstack_acts{state="retrying",verb="stop_task"}'] == 1
    assert found['dstack_act_oldest_seconds{verb="stop_task"}'] >= 100
    assert found["dstack_engine_due"] == 1
    assert 100 <= found["dstack_engine_due_lag_seconds"] < 1000
    assert found['dstack_queue_length{project_name="main"}'] == 1
    assert found['dstack_orphans{status="quarantined"}'] == 0
    assert found["dstack_database_wait_seconds"] == 0


async def test_each_instance_tells_its_price_and_age(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet("here")}})
    await live.call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    await ended(live, "t")
    found = await numbers(live)
    names = [name for name in found if name.startswith("dstack_instance_price_dollars_per_hour{")]
    assert len(names) == 1
    assert re.search(r'dstack_project_name="main"', names[0]) and re.search(r'dstack_backend="local"', names[0])
    assert found[names[0]] == 0
    (age,) = [found[name] for name in found if name.startswith("dstack_instance_duration_seconds_total{")]
    assert age > 0
