"""Plans of runs: what would be done, by which machine, and why not."""

from __future__ import annotations

from typing import Any

from support.http_api import Api, fleet, task


async def _plan(api: Api, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return await api.call("runs/get_plan", {"run_spec": spec, **more})


async def _make_fleet(api: Api, **fields: Any) -> dict[str, Any]:
    return await api.call("fleets/apply", {"plan": {"spec": fleet(**fields)}, "force": False})


async def test_a_plan_offers_what_a_fleet_may_create(api: Api) -> None:
    await _make_fleet(api)
    plan = await _plan(api, task("true", name="t"))
    offer = plan["job_plans"][0]["offers"][0]
    assert plan["action"] == "create"
    assert plan["job_plans"][0]["total_offers"] == 1
    assert (offer["backend"], offer["x_backend"], offer["x_runtime"]) == ("remote", "local", "process")
    assert offer["instance_runtime"] == "runner"


async def test_without_a_fleet_a_plan_has_no_offers_and_says_why(api: Api) -> None:
    plan = await _plan(api, task("true"))
    assert plan["job_plans"][0]["total_offers"] == 0
    assert plan["x_report"]["best_reason"]


async def test_a_plan_fills_in_the_defaults_that_clients_print(api: Api) -> None:
    plan = await _plan(api, task("true"))
    asked = plan["job_plans"][0]["job_spec"]["requirements"]
    assert asked["resources"]["cpu"] == {"arch": "x86", "count": {"min": 2, "max": None}}
    assert asked["resources"]["gpu"]["vendor"] == "nvidia"
    assert asked["resources"]["memory"]["min"] == 8.0
    assert asked["resources"]["disk"]["size"]["min"] == 100.0
    assert asked["spot"] is False
    assert plan["run_spec"]["ssh_key_pub"].startswith("ssh-ed25519 ")
    assert plan["effective_run_spec"]["configuration"]["priority"] == 0


async def test_a_profile_counts_where_the_configuration_says_nothing(api: Api) -> None:
    spec = task("true", max_price=2) | {"profile": {"name": "p", "max_price": 1, "spot_policy": "auto"}}
    plan = await _plan(api, spec)
    effective = plan["effective_run_spec"]["configuration"]
    assert (effective["max_price"], effective["spot_policy"]) == (2.0, "auto")
    assert plan["job_plans"][0]["job_spec"]["requirements"]["spot"] is None
    assert effective["name"] is None


async def test_at_most_so_many_offers_are_shown_as_asked_for_and_all_are_counted(api: Api) -> None:
    await _make_fleet(api)
    plan = await _plan(api, task("true"), max_offers=0)
    assert plan["job_plans"][0]["offers"] == []
    assert plan["job_plans"][0]["total_offers"] == 1


async def test_the_offers_of_a_fleet_with_blocks_are_the_blocks_that_the_run_would_take(api: Api) -> None:
    await _make_fleet(api, blocks="auto")
    spec = task("true", resources={"cpu": "1..", "memory": "0.1GB.."})
    part, whole, free = [
        (await _plan(api, spec, **more))["job_plans"][0]["offers"][0]
        for more in ({}, {"full_offers": True}, {"unallocated_resources": True})
    ]
    total = part["total_blocks"]
    assert (part["blocks"], part["instance"]["resources"]["cpus"]) == (1, 1)
    assert (whole["blocks"], whole["instance"]["resources"]["cpus"]) == (total, total)
    assert free == whole
    assert part["instance"]["resources"]["memory_mib"] == whole["instance"]["resources"]["memory_mib"] // total


async def test_an_image_is_refused_by_name_where_jobs_are_processes(api: Api) -> None:
    await _make_fleet(api)
    spec = task("true", image="alpine", user="root")
    plan = await _plan(api, spec)
    assert [line.split(":")[0] for line in plan["x_refusals"]] == ["image", "user"]
    answer = await api.call("runs/apply", {"plan": {"run_spec": spec}, "force": False}, status=400)
    assert answer["detail"] == [{"msg": "\n".join(plan["x_refusals"]), "code": "error"}]


async def test_what_cannot_be_executed_yet_is_refused_by_name(api: Api) -> None:
    spec = task("true", reservation="r")
    plan = await _plan(api, spec)
    assert plan["x_refusals"][0].startswith("reservation:")
    answer = await api.call("runs/apply", {"plan": {"run_spec": spec}, "force": False}, status=400)
    assert answer["detail"][0]["msg"].startswith("reservation:")


async def test_a_python_version_is_said_to_be_the_machines_where_jobs_are_processes(api: Api) -> None:
    plan = await _plan(api, task("true", python="3.12"))
    assert plan["x_notices"][0].startswith("python: 3.12 comes from uv")
    assert plan["x_refusals"] == []


async def test_names_that_nothing_has_are_told_with_those_there_are(api: Api) -> None:
    name = (await _make_fleet(api))["name"]
    plan = await _plan(api, task("true", fleets=["nope"], backends=["aws"]))
    assert [line for line in plan["x_notices"] if line.startswith(("fleets:", "backends:"))] == [
        f"fleets: there is no nope in the project, there is {name}",
        "backends: nothing here comes from aws, there is local",
    ]


async def test_a_variable_without_a_value_is_refused(api: Api) -> None:
    plan = await _plan(api, task("true", env=["HF_TOKEN"]))
    assert plan["x_refusals"] == ["env: HF_TOKEN has no value"]


async def test_what_a_released_client_asks_for_offers_with_is_answered_with_offers(api: Api) -> None:
    """As `dstack offer` sends it: an image that does not exist, no disk, no fleet."""
    configuration = {
        "type": "task",
        "image": "scratch",
        "commands": [":"],
        "user": "root",
        "priority": None,
        "resources": {
            "cpu": {"arch": None, "count": {"min": 1, "max": None}},
            "memory": {"min": 0.0, "max": None},
            "shm_size": None,
            "gpu": {"vendor": None, "name": None, "count": {"min": 0, "max": None}, "memory": None},
            "disk": None,
        },
    }
    spec = {
        "configuration": configuration,
        "run_name": None,
        "repo_id": None,
        "repo_data": None,
        "profile": {"name": ""},
    }
    plan = await _plan(api, spec, max_offers=50, for_offers_only=True)
    assert plan["job_plans"][0]["total_offers"] == 1
    assert plan["x_refusals"] == []


async def test_gpus_are_grouped_and_a_wrong_grouping_is_refused(api: Api) -> None:
    assert await api.call("gpus/list", {"run_spec": task(":")}) == {"gpus": [], "cpus": None}
    answer = await api.call("gpus/list", {"run_spec": task(":"), "group_by": ["region"]}, status=400)
    assert answer["detail"][0]["msg"] == "Cannot group by 'region' without also grouping by 'backend'"


async def test_a_plan_that_a_client_sends_back_is_understood(api: Api) -> None:
    await _make_fleet(api)
    spec = task(
        "true",
        name="t",
        resources={"cpu": "2..", "memory": "1GB..", "gpu": "A100:40GB:0..2", "disk": "1GB.."},
        env={"A": "1"},
        fleets=["here"],
        backends=["local"],
        retry={"on_events": ["error"], "duration": "1h"},
        max_duration="off",
        ports=["8000:80"],
        tags={"team": "ml"},
    )
    plan = await _plan(api, spec)
    assert plan["run_spec"]["configuration"]["backends"] == ["remote"]
    again = await _plan(api, plan["run_spec"])
    assert again["effective_run_spec"] == plan["effective_run_spec"]
    assert again["job_plans"][0]["total_offers"] == 1


async def test_a_type_that_is_not_executed_yet_is_refused_by_its_name(api: Api) -> None:
    spec = task("true") | {"configuration": {"type": "service", "port": 80, "image": "a"}}
    answer = await api.raw("runs/get_plan", {"run_spec": spec})
    assert answer.status_code == 400
    assert "type: service is not supported yet by this server; supported: task, dev-environment, fleet" in answer.text


async def test_a_single_gpu_memory_that_leaves_no_offer_is_remarked(api: Api) -> None:
    await _make_fleet(api)
    plan = await _plan(api, task("true", resources={"gpu": "24GB"}))
    assert [line for line in plan["x_notices"] if "`24GB..` is that or more" in line]
