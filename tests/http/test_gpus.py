"""GPUs on offer and their groups, over the priced offers of the simulated cloud."""

from __future__ import annotations

from typing import Any

import pytest

from support.http_api import Api, task

BOTH = {"regions": ["east", "west"]}
OFFERS = [
    {"instance_type": "l4-1", "gpu": "L4:24GB:1", "price": 1.0, "spot_price": 0.4, **BOTH},
    {"instance_type": "l4-4", "gpu": "L4:24GB:4", "price": 4.8, "regions": ["east"]},
    {"instance_type": "a100-8", "gpu": "A100:80GB:8", "price": 16.0, "spot_price": 8.0, "regions": ["west"]},
    {"instance_type": "small", "cpus": 4, "price": 0.1, **BOTH},
    {"instance_type": "large", "cpus": 16, "memory": 64, "price": 0.6, **BOTH},
]


@pytest.fixture
async def cloud(api: Api) -> Api:
    await api.call("backends/create", {"type": "sim", "run": "pretend", "offers": OFFERS})
    return api


async def groups(api: Api, gpu: Any = "1..", group_by: list[str] | None = None, **more: Any) -> list[dict[str, Any]]:
    """`more` is of the request, or of the configuration where it is a key of one."""
    request = {key: more.pop(key) for key in ("reverse",) if key in more}
    spec = task("true", resources={"gpu": gpu, "disk": "50GB.."}, **{"spot_policy": "auto", **more})
    body = {"run_spec": spec, "group_by": group_by, **request}
    return (await api.call("gpus/list", body))["gpus"]


async def test_gpus_are_one_group_a_type_the_cheapest_first(cloud: Api) -> None:
    l4, a100 = await groups(cloud)
    assert (l4["name"], l4["memory_mib"], l4["vendor"]) == ("L4", 24 * 1024, "nvidia")
    assert (l4["count"], l4["spot"]) == ({"min": 1, "max": 4}, ["spot", "on-demand"])
    assert (a100["name"], a100["count"]) == ("A100", {"min": 8, "max": 8})


async def test_prices_of_a_group_are_of_one_gpu(cloud: Api) -> None:
    l4, a100 = await groups(cloud)
    assert (l4["price"], a100["price"]) == ({"min": 0.4, "max": 1.2}, {"min": 1.0, "max": 2.0})


async def test_groups_tell_backends_and_regions_unless_they_are_split_by_them(cloud: Api) -> None:
    l4, _ = await groups(cloud)
    assert (l4["backends"], l4["x_backends"], l4["backend"], l4["region"]) == (["remote"], ["sim"], None, None)
    l4, _ = await groups(cloud, group_by=["backend"])
    assert (l4["backend"], l4["backends"], sorted(l4["regions"])) == ("remote", None, ["east", "west"])


async def test_groups_are_split_by_region_below_their_backend(cloud: Api) -> None:
    found = await groups(cloud, group_by=["backend", "region"])
    assert sorted((one["name"], one["region"]) for one in found) == [("A100", "west"), ("L4", "east"), ("L4", "west")]
    assert {one["region"]: one["count"]["max"] for one in found if one["name"] == "L4"} == {"east": 4, "west": 1}


async def test_groups_are_split_by_count(cloud: Api) -> None:
    found = await groups(cloud, group_by=["count"])
    assert [(one["name"], one["count"]["min"], one["count"]["max"]) for one in found] == [
        ("L4", 1, 1),
        ("A100", 8, 8),
        ("L4", 4, 4),
    ]


async def test_regions_alone_cannot_split_groups(cloud: Api) -> None:
    body = {"run_spec": task("true"), "group_by": ["region"]}
    answer = await cloud.call("gpus/list", body, status=400)
    assert answer["detail"][0]["msg"] == "Cannot group by 'region' without also grouping by 'backend'"


@pytest.mark.parametrize(("policy", "price"), [("spot", 0.4), ("on-demand", 1.0)])
async def test_only_what_the_spot_policy_wants_is_grouped(cloud: Api, policy: str, price: float) -> None:
    l4 = (await groups(cloud, spot_policy=policy))[0]
    assert (l4["spot"], l4["price"]["min"]) == ([policy], price)


async def test_a_dearer_offer_than_the_highest_price_is_in_no_group(cloud: Api) -> None:
    assert [one["name"] for one in await groups(cloud, max_price=5)] == ["L4"]


async def test_groups_come_in_reverse_when_asked_for(cloud: Api) -> None:
    assert [one["name"] for one in await groups(cloud, reverse=True)] == ["A100", "L4"]


async def test_processors_are_grouped_where_no_gpu_is_asked_for(cloud: Api) -> None:
    spec = task("true", resources={"gpu": 0, "disk": "50GB.."}, backends=["sim"])
    answer = await cloud.call("gpus/list", {"run_spec": spec})
    assert answer["gpus"] == []
    assert [(one["count"]["min"], one["price"]["min"]) for one in answer["cpus"]] == [(4, 0.1), (16, 0.6)]


async def test_offers_of_a_plan_are_the_ones_that_are_grouped(cloud: Api) -> None:
    spec = task("true", resources={"gpu": "L4:1..", "disk": "50GB.."}, spot_policy="auto")
    body = {"run_spec": spec, "max_offers": 50, "for_offers_only": True}
    plan = (await cloud.call("runs/get_plan", body))["job_plans"][0]
    assert [(one["region"], one["price"]) for one in plan["offers"]] == [
        ("east", 0.4),
        ("west", 0.4),
        ("east", 1.0),
        ("west", 1.0),
        ("east", 4.8),
    ]


async def test_a_gpu_that_nothing_has_is_told_with_those_there_are(cloud: Api) -> None:
    plan = await cloud.call("runs/get_plan", {"run_spec": task("true", resources={"gpu": "RTX9090"})})
    (told,) = [line for line in plan["x_notices"] if line.startswith("resources.gpu:")]
    assert told.startswith("resources.gpu: nothing here has RTX9090, there is ")
    assert "L4" in told
