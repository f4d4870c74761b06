"""Who may enter a run, how one is told to get there, and what of a dev environment is changed while it runs."""

from __future__ import annotations

from typing import Any

from dstack.agentapi.wire import SESSION_PORT
from dstack.model.job import Job, JobSession, JobStatus
from dstack.model.run import Run
from dstack.server.effects.entrants import keys_of
from dstack.server.services.rows import change_rows, fetch
from dstack.server.store.tables import TABLES
from support.builders import instance, offer, place_on
from support.http_api import Api, task

OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPu6cCVE0WVyVG/qqfGFK/cSJEiZ1vp9zqfBSkSn7bq"
GIVEN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPLG8RWxyN3bMmumYvECm+cFTJbm+/FMtTfkEjpReIU5"


def dev(**fields: Any) -> dict[str, Any]:
    return {"run_name": "dev", "configuration": {"type": "dev-environment", "name": "dev", "ide": "vscode", **fields}}


async def job_of(api: Api, run: dict[str, Any]) -> Job:
    async with api.parts.database.read() as connection:
        return (await fetch(connection, Job, TABLES["job"].c.run_id == run["id"]))[0]


async def test_a_run_is_open_to_the_key_that_came_with_it_and_to_all_of_its_owner(api: Api) -> None:
    await api.call("/api/users/public_keys/add", {"key": f"{OWN} laptop"})
    me = await api.call("/api/users/get_my_user")
    spec = task("true", name="t1") | {"ssh_key_pub": f"{GIVEN} work"}
    run = await api.call("runs/apply", {"plan": {"run_spec": spec}})
    servers = " ".join(me["ssh_public_key"].split()[:2])
    assert set(await keys_of(api.parts.database, await job_of(api, run))) == {GIVEN, servers, OWN}


async def test_what_is_no_key_opens_nothing_and_keeps_nobody_out(api: Api) -> None:
    spec = task("true", name="t1") | {"ssh_key_pub": f'command="sh" {GIVEN}\n{OWN}'}
    run = await api.call("runs/apply", {"plan": {"run_spec": spec}})
    keys = await keys_of(api.parts.database, await job_of(api, run))
    assert len(keys) == 1 and GIVEN not in keys and OWN not in keys


async def test_a_run_on_the_servers_own_machine_tells_its_door(api: Api) -> None:
    run = await api.call("runs/apply", {"plan": {"run_spec": task("true", name="t1")}})
    assert run["latest_job_submission"]["x_attach"] is None
    job = await job_of(api, run)
    on = instance(offer=offer(backend="local"))
    fields = {"status": JobStatus.RUNNING, "place": place_on(on), "port_mapping": {SESSION_PORT: 40022}}
    session = JobSession(user="ann", host_key="ssh-ed25519 AAAA")
    async with api.parts.database.write() as connection:
        await change_rows(connection, Job, [job.id], session=session, **fields)
    submission = (await api.call("runs/get", {"run_name": "t1"}))["latest_job_submission"]
    assert submission["x_attach"] == {
        "port": 40022,
        "message": "",
        "user": "ann",
        "host_key": "ssh-ed25519 AAAA",
        "host": None,
    }
    async with api.parts.database.write() as connection:
        await change_rows(connection, Job, [job.id], status=JobStatus.TERMINATING, running_since=1.0)
    saving = (await api.call("runs/get", {"run_name": "t1"}))["latest_job_submission"]
    assert saving["x_attach"] == submission["x_attach"]
    async with api.parts.database.write() as connection:
        await change_rows(connection, Job, [job.id], task_ended=True)
    assert (await api.call("runs/get", {"run_name": "t1"}))["latest_job_submission"]["x_attach"] is None
    told = submission["job_provisioning_data"]
    assert (told["hostname"], told["ssh_port"], told["username"], told["dockerized"]) == (
        "127.0.0.1",
        40022,
        "ann",
        False,
    )


async def test_the_inactivity_duration_of_a_dev_environment_is_changed_while_it_runs(api: Api) -> None:
    run = await api.call("runs/apply", {"plan": {"run_spec": dev(inactivity_duration="1h")}})
    plan = await api.call("runs/get_plan", {"run_spec": dev(inactivity_duration="2h")})
    assert plan["action"] == "update"
    changed = await api.call("runs/apply", {"plan": {"run_spec": plan["run_spec"], "current_resource": run}})
    assert changed["id"] == run["id"]
    assert (await job_of(api, run)).spec.inactivity_duration_s == 7200


async def test_an_ide_that_was_updated_meanwhile_stops_no_dev_environment(api: Api) -> None:
    run = await api.call("runs/apply", {"plan": {"run_spec": dev(version="1.95.3")}})
    plan = await api.call("runs/get_plan", {"run_spec": dev(version="1.96.0")})
    assert plan["action"] == "update"
    changed = await api.call("runs/apply", {"plan": {"run_spec": plan["run_spec"], "current_resource": run}})
    assert changed["id"] == run["id"]
    ide = (await job_of(api, run)).spec.ide
    assert ide is not None and ide.number == "1.95.3"  # which is there: another one comes at the next start


async def test_a_version_by_which_no_server_is_found_is_told_in_the_plan(api: Api) -> None:
    plan = await api.call("runs/get_plan", {"run_spec": dev(ide="cursor", version="1.7.3")})
    assert plan["x_notices"] == [
        "version: the server of Cursor is not put in beforehand: "
        "expected COMMIT or VERSION@COMMIT, which `cursor --version` prints"
    ]


async def test_a_version_of_windsurf_names_the_server_that_the_job_gets(api: Api) -> None:
    plan = await api.call("runs/get_plan", {"run_spec": dev(ide="windsurf", version=f"1.3.11@{'a' * 40}")})
    assert plan["x_notices"] == []
    run = await api.call("runs/apply", {"plan": {"run_spec": plan["run_spec"]}})
    ide = (await job_of(api, run)).spec.ide
    assert ide is not None and (ide.name, ide.number, ide.commit) == ("windsurf", "1.3.11", "a" * 40)


async def test_a_dev_environment_of_the_store_is_read_as_one(api: Api) -> None:
    await api.call("runs/apply", {"plan": {"run_spec": dev(init=["make"])}})
    async with api.parts.database.read() as connection:
        (run,) = await fetch(connection, Run)
    assert run.spec.configuration.type == "dev-environment"
