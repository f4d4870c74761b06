"""Fleets of hosts of one's own, from the file to the last host that is left, over hosts that pretend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dstack.backends.sim.config import Pretence
from dstack.clock import WallClock
from dstack.model.host import Finding
from dstack.server.app import running
from dstack.server.auth.keys import new_key_pair
from dstack.server.settings import Settings
from dstack.server.store.tables import host_access
from dstack.sim.hosts import PretendHosts, pretend_host
from support.http_api import Api, client_of, ended, gone, reached, task, watched

KEYS, OTHER = new_key_pair("ours"), new_key_pair("others")
NO_SUDO = Finding(check="sudo", state="failed", message="sudo asks for a password", remedy="visudo")
DEADLINE_S = 30.0
LASTING = Pretence(duration=3600.0)  # a job that a test has to find running still runs however busy this machine is


@pytest.fixture
async def hosts() -> PretendHosts:
    network = {f"10.0.0.{n}": pretend_host(f"h{n}", KEYS.private, f"10.0.0.{n}/24") for n in (1, 2, 3)}
    return PretendHosts(network, WallClock(), LASTING)


@pytest.fixture
async def api(settings: Settings, hosts: PretendHosts) -> AsyncIterator[Api]:
    """The admin, on a whole running server that reaches the hosts of `hosts`."""
    async with running(settings, WallClock(), hosts) as server, client_of(server.parts) as http:
        yield Api(http, server.parts)


def spec(*names: Any, name: str = "lab", private: str | None = KEYS.private, **fields: Any) -> dict[str, Any]:
    key = {"public": KEYS.public, "private": private}
    ssh = {"user": "ubuntu", "identity_file": "~/.ssh/id", "ssh_key": key, "hosts": list(names)}
    ssh |= {k: fields.pop(k) for k in ("network", "proxy_jump") if k in fields}
    configuration = {"type": "fleet", "name": name, "ssh_config": ssh, **fields}
    return {"configuration": configuration, "profile": {"name": "default"}}


async def apply(api: Api, wanted: dict[str, Any], *, force: bool = False, status: int = 200) -> dict[str, Any]:
    """As clients do it: with the spec that the plan answered."""
    plan = await api.call("fleets/get_plan", {"spec": wanted})
    body = {"plan": {"spec": plan["spec"], "current_resource": plan["current_resource"]}, "force": force}
    return await api.call("fleets/apply", body, status=status)


async def until(api: Api, fleet_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    keys = [f"fleet:{fleet_id}"]
    async with asyncio.timeout(DEADLINE_S):
        while True:
            fleet = await api.call("fleets/get", {"id": fleet_id})
            if condition(fleet):
                return fleet
            keys = [f"fleet:{fleet_id}", *(f"instance:{i['id']}" for i in fleet["instances"])]
            await api.parts.changes.wait(api.parts.changes.seq(keys), keys, 0.2)


async def until_waits(api: Api, run_name: str, start: str) -> str:
    """What the run waits for, once its words begin so."""
    run = await watched(api, run_name, lambda run: (run["x_waiting_for"] or "").startswith(start))
    return run["x_waiting_for"]


def states(fleet: dict[str, Any]) -> dict[str, str]:
    return {i["x_host"]: i["status"] for i in fleet["instances"]}


async def idle(api: Api, *names: str, **fields: Any) -> dict[str, Any]:
    made = await apply(api, spec(*names, **fields))
    return await until(api, made["id"], lambda f: states(f) == dict.fromkeys(names, "idle"))


async def run_on(api: Api, name: str, **fields: Any) -> None:
    """A run that lasts, once it runs."""
    await api.call("runs/apply", {"plan": {"run_spec": task("sleep 1000", name=name, **fields)}})
    await reached(api, name, "running")


async def test_each_host_becomes_an_idle_instance_with_what_it_has(api: Api, hosts: PretendHosts) -> None:
    fleet = await idle(api, "10.0.0.1", "10.0.0.2")
    one = fleet["instances"][0]
    assert (one["instance_num"], one["price"], one["region"], one["x_backend"]) == (0, 0.0, "remote", "ssh")
    resources = one["instance_type"]["resources"]
    assert (resources["cpus"], resources["memory_mib"], resources["disk"]["size_mib"]) == (8, 32768, 204800)
    assert [i["x_internal_ip"] for i in fleet["instances"]] == ["10.0.0.1", "10.0.0.2"]


async def test_private_keys_are_never_answered_and_lie_sealed(api: Api) -> None:
    plan = await api.raw("fleets/get_plan", {"spec": spec("10.0.0.1")})
    fleet = await idle(api, "10.0.0.1")
    async with api.parts.database.read() as connection:
        stored = [bytes(row.sealed) for row in await connection.execute(host_access.select())]
    secret = KEYS.private.splitlines()[1]
    assert secret not in plan.text + json.dumps(fleet)
    assert len(stored) == 1 and secret.encode() not in stored[0]


async def test_the_keys_of_a_plan_are_of_no_use_to_somebody_else(api: Api) -> None:
    plan = await api.call("fleets/get_plan", {"spec": spec("10.0.0.1")})
    other = await api.user("eve", "admin")
    answer = await other.call("fleets/apply", {"plan": {"spec": plan["spec"]}, "force": False}, status=400)
    assert "sent by somebody else" in answer["detail"][0]["msg"]


async def test_a_host_without_a_private_key_is_refused(api: Api) -> None:
    plan = await api.call("fleets/get_plan", {"spec": spec("10.0.0.1", private=None)})
    assert plan["x_refusals"] == ["ssh_config: the private key for the host 10.0.0.1 was not sent"]


async def test_what_is_wrong_with_a_host_is_told_and_the_others_are_used(api: Api, hosts: PretendHosts) -> None:
    hosts.network["10.0.0.2"].faults = (NO_SUDO,)
    made = await apply(api, spec("10.0.0.1", "10.0.0.2"))
    fleet = await until(api, made["id"], lambda f: any(i["x_to_mend"] for i in f["instances"]))
    fleet = await until(api, made["id"], lambda f: states(f)["10.0.0.1"] == "idle")
    bad = fleet["instances"][1]
    assert bad["status"] == "provisioning"
    assert bad["x_message"] == "sudo: sudo asks for a password (mend it: visudo)"


async def test_a_mended_host_is_taken_up_when_the_fleet_is_applied_again(api: Api, hosts: PretendHosts) -> None:
    hosts.network["10.0.0.1"].faults = (NO_SUDO,)
    made = await apply(api, spec("10.0.0.1"))
    await until(api, made["id"], lambda f: any(i["x_to_mend"] for i in f["instances"]))
    hosts.mend("10.0.0.1")
    plan = await api.call("fleets/get_plan", {"spec": spec("10.0.0.1")})
    assert [(h["host"], h["state"]) for h in plan["x_hosts"]] == [("10.0.0.1", "again")]
    await apply(api, spec("10.0.0.1"))
    await until(api, made["id"], lambda f: states(f) == {"10.0.0.1": "idle"})


async def test_hosts_come_and_go_in_place_and_keep_their_numbers(api: Api, hosts: PretendHosts) -> None:
    fleet = await idle(api, "10.0.0.1", "10.0.0.2")
    await apply(api, spec("10.0.0.2", "10.0.0.3"))
    fleet = await until(api, fleet["id"], lambda f: states(f) == {"10.0.0.2": "idle", "10.0.0.3": "idle"})
    assert [i["instance_num"] for i in fleet["instances"]] == [1, 2]
    assert hosts.network["10.0.0.1"].agent is None


async def test_a_host_with_a_running_job_is_not_removed_unless_forced(api: Api) -> None:
    fleet = await idle(api, "10.0.0.1", "10.0.0.2")
    await run_on(api, "train", instances=[{"hostname": "10.0.0.2"}])
    answer = await apply(api, spec("10.0.0.1"), status=400)
    assert "The host 10.0.0.2 cannot be removed: it is in use by train" in answer["detail"][0]["msg"]
    await apply(api, spec("10.0.0.1"), force=True)
    await until(api, fleet["id"], lambda f: states(f) == {"10.0.0.1": "idle"})


async def test_a_host_belongs_to_one_fleet_of_the_server(api: Api) -> None:
    await idle(api, "10.0.0.1")
    plan = await api.call("fleets/get_plan", {"spec": spec("10.0.0.1", name="other")})
    assert plan["x_refusals"] == ["The host 10.0.0.1 is already in the fleet lab of this server"]


async def test_what_another_project_calls_the_fleet_that_has_a_host_is_not_told(api: Api) -> None:
    await idle(api, "10.0.0.1")
    await api.call("/api/projects/create", {"project_name": "others"})
    plan = await api.having(api.token, "others").call("fleets/get_plan", {"spec": spec("10.0.0.1")})
    assert plan["x_refusals"] == ["The host 10.0.0.1 is already in a fleet of another project of this server"]


async def test_a_deleted_fleet_leaves_its_hosts_clean_and_free_for_another(api: Api, hosts: PretendHosts) -> None:
    fleet = await idle(api, "10.0.0.1")
    await api.call("fleets/delete", {"names": ["lab"]})
    async with asyncio.timeout(DEADLINE_S):
        await gone(api, fleet["id"])
    assert hosts.network["10.0.0.1"].agent is None
    async with api.parts.database.read() as connection:
        assert (await connection.execute(host_access.select())).all() == []
    await idle(api, "10.0.0.1", name="other")


async def test_an_abandoned_host_that_does_not_answer_is_not_waited_for(api: Api, hosts: PretendHosts) -> None:
    fleet = await idle(api, "10.0.0.1")
    hosts.cut("10.0.0.1", fleet["instances"][0]["id"])
    await until(api, fleet["id"], lambda f: f["instances"][0]["unreachable"])
    await api.call("fleets/delete", {"names": ["lab"], "x_abandon": True})
    async with asyncio.timeout(DEADLINE_S):
        await gone(api, fleet["id"])
    events = await api.call("/api/events/list", {"limit": 100})
    assert any(e["message"].startswith("Instance given up: its host keeps the agent") for e in events)


async def test_a_host_that_goes_away_is_unreachable_and_its_job_goes_on(api: Api, hosts: PretendHosts) -> None:
    fleet = await idle(api, "10.0.0.1")
    await run_on(api, "train")
    hosts.cut("10.0.0.1", fleet["instances"][0]["id"])
    seen = await until(api, fleet["id"], lambda f: f["instances"][0]["unreachable"])
    assert seen["instances"][0]["status"] == "busy"
    hosts.mend("10.0.0.1")
    await until(api, fleet["id"], lambda f: not f["instances"][0]["unreachable"])
    run = await api.call("runs/get", {"run_name": "train"})
    assert run["status"] == "running"


async def test_a_run_tells_that_its_host_does_not_answer_until_it_does(api: Api, hosts: PretendHosts) -> None:
    async def submission() -> dict[str, Any]:
        return (await api.call("runs/get", {"run_name": "train"}))["jobs"][0]["job_submissions"][-1]

    fleet = await idle(api, "10.0.0.1")
    await run_on(api, "train")
    hosts.cut("10.0.0.1", fleet["instances"][0]["id"])
    await until(api, fleet["id"], lambda f: f["instances"][0]["unreachable"])
    cut = await submission()
    assert (cut["status"], cut["x_unreachable_since"] is None) == ("running", False)
    lines = (await api.call("runs/why", {"run_name": "train"}))["lines"]
    assert lines[0] == "train is running"
    assert lines[1].startswith("lab-0 (10.0.0.1) has not answered for ")
    hosts.mend("10.0.0.1")
    await until(api, fleet["id"], lambda f: not f["instances"][0]["unreachable"])
    assert (await submission())["x_unreachable_since"] is None


async def test_a_job_whose_host_was_set_up_anew_between_two_questions_is_told_as_lost(
    api: Api, hosts: PretendHosts
) -> None:
    await idle(api, "10.0.0.1")
    await run_on(api, "train")
    hosts.set_up_anew("10.0.0.1")
    lost = (await ended(api, "train"))["jobs"][0]["job_submissions"][-1]
    assert (lost["status"], lost["termination_reason"]) == ("failed", "executor_error")


async def test_another_machine_at_the_address_of_a_host_is_told(api: Api, hosts: PretendHosts) -> None:
    fleet = await idle(api, "10.0.0.1")
    hosts.network["10.0.0.1"].host_key = "ssh-ed25519 another"
    hosts.cut("10.0.0.1", fleet["instances"][0]["id"])
    hosts.network["10.0.0.1"].up = True
    seen = await until(api, fleet["id"], lambda f: "host key" in (f["instances"][0]["x_message"] or ""))
    assert seen["instances"][0]["unreachable"]


async def test_a_cordoned_instance_takes_no_jobs_and_says_so(api: Api) -> None:
    await idle(api, "10.0.0.1")
    cordoned = await api.call("fleets/cordon", {"name": "lab", "instance_nums": [0], "cordon": "cordoned"})
    assert cordoned["instances"][0]["x_cordon"] == "cordoned"
    plan = await api.call("runs/get_plan", {"run_spec": task("true", name="t")})
    assert plan["job_plans"][0]["total_offers"] == 0
    assert plan["job_plans"][0]["offers"] == [] and plan["x_report"]["best_reason"].startswith("cordoned")
    await api.call("fleets/cordon", {"name": "lab", "cordon": None})
    plan = await api.call("runs/get_plan", {"run_spec": task("true", name="t")})
    assert plan["job_plans"][0]["total_offers"] == 1


async def test_a_cluster_without_a_common_network_says_what_each_host_has(api: Api, hosts: PretendHosts) -> None:
    hosts.network["10.0.0.2"].addresses = ("10.9.0.2/24",)
    made = await apply(api, spec("10.0.0.1", "10.0.0.2", placement="cluster"))
    fleet = await until(api, made["id"], lambda f: bool(f["status_message"]))
    assert fleet["status_message"].startswith("The hosts have no network in common")
    assert "10.0.0.2 has 10.9.0.2/24" in fleet["status_message"]


async def test_the_key_that_a_host_refuses_is_told(api: Api, hosts: PretendHosts) -> None:
    hosts.network["10.0.0.1"].accepts = OTHER.private
    made = await apply(api, spec("10.0.0.1"))
    fleet = await until(api, made["id"], lambda f: any(i["x_to_mend"] for i in f["instances"]))
    assert "does not let ubuntu in with this key" in fleet["instances"][0]["x_message"]


async def test_a_run_that_fits_no_host_names_each_in_the_plan_the_reason_and_the_answer_to_why(api: Api) -> None:
    await idle(api, "10.0.0.1", "10.0.0.2")
    await api.call("fleets/cordon", {"name": "lab", "instance_nums": [0], "cordon": "cordoned"})
    wanted = task("true", name="big", resources={"cpu": 99})
    plan = await api.call("runs/get_plan", {"run_spec": wanted})
    told = {
        "lab-0": ("10.0.0.1", "cordoned: the instance takes no new jobs"),
        "lab-1": ("10.0.0.2", "cpu: needs 99, has 8"),
    }
    assert {h["instance"]: (h["host"], h["reason"]) for h in plan["x_report"]["hosts"]} == told
    await api.call("runs/apply", {"plan": {"run_spec": wanted}})
    run = await ended(api, "big")
    last = run["jobs"][0]["job_submissions"][-1]
    assert last["termination_reason_message"] == (
        "No offers matching the run requirements in fleet 'lab'. "
        "lab-0: cordoned: the instance takes no new jobs; lab-1: cpu: needs 99, has 8"
    )
    why = await api.call("runs/why", {"run_name": "big"})
    assert why["lines"][-3:] == [
        "Hosts that do not fit now:",
        "  lab-0  10.0.0.1  cordoned: the instance takes no new jobs",
        "  lab-1  10.0.0.2  cpu: needs 99, has 8",
    ]


async def test_a_run_that_waits_for_a_host_says_what_keeps_it_from_the_others(api: Api, hosts: PretendHosts) -> None:
    await idle(api, "10.0.0.1")
    await run_on(api, "train")
    hosts.network["10.0.0.2"].may_be_looked_at.clear()  # its look takes its time
    await apply(api, spec("10.0.0.1", "10.0.0.2"))
    await api.call("runs/apply", {"plan": {"run_spec": task("true", name="second")}})
    answer = await until_waits(api, "second", "lab-1 to be set up")
    assert answer == "lab-1 to be set up; lab-0: busy: it runs another job; lab-1: setup: the host is not set up yet"
    hosts.network["10.0.0.2"].may_be_looked_at.set()
    second = await reached(api, "second", "running")
    assert second["latest_job_submission"]["job_provisioning_data"]["x_instance"] == "lab-1"


async def test_a_run_of_two_nodes_on_hosts_without_a_common_network_is_told_so(api: Api, hosts: PretendHosts) -> None:
    hosts.network["10.0.0.2"].addresses = ("10.9.0.2/24",)
    made = await apply(api, spec("10.0.0.1", "10.0.0.2", placement="cluster"))
    await until(api, made["id"], lambda f: set(states(f).values()) == {"idle"} and bool(f["status_message"]))
    wanted = task("true", name="two", nodes=2)
    plan = await api.call("runs/get_plan", {"run_spec": wanted})
    reasons = [one["reason"] for one in plan["x_report"]["hosts"]]
    assert reasons and set(reasons) == {"network: the host has no network in common with the others"}
    await api.call("runs/apply", {"plan": {"run_spec": wanted}})
    message = (await ended(api, "two"))["jobs"][0]["job_submissions"][-1]["termination_reason_message"]
    assert "network: the host has no network in common with the others" in message


async def test_blocks_into_which_a_host_cannot_be_cut_end_it_with_the_reason_and_the_others_are_used(api: Api) -> None:
    odd = {"hostname": "10.0.0.2", "blocks": 3}
    made = await apply(api, spec("10.0.0.1", odd))
    told = "10.0.0.2: blocks: 8 cores cannot be divided into 3 blocks"
    fleet = await until(api, made["id"], lambda f: any(one["x_message"] == told for one in f["instances"]))
    await until(api, made["id"], lambda f: states(f).get("10.0.0.1") == "idle")
    odd_one = next(one for one in fleet["instances"] if one["x_host"] == "10.0.0.2")
    assert odd_one["status"] in ("terminating", "terminated")


async def test_more_nodes_than_hosts_are_told_with_the_hosts_that_there_are(api: Api) -> None:
    await idle(api, "10.0.0.1", "10.0.0.2", placement="cluster")
    plan = await api.call("runs/get_plan", {"run_spec": task("true", name="three", nodes=3)})
    assert plan["x_notices"] == ["nodes: 3 nodes are needed at once, fleet 'lab' can have 2"]
