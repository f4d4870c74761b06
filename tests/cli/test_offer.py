"""`offer`: what there is, in a list and in groups, and why the rest does not fit."""

from __future__ import annotations

import json

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import WireServer

REPORT = {
    "considered": 3,
    "drops": [{"stage": "gpu", "reason": "needs A100:1..", "count": 3, "nearest": "L4:24GB", "hint": "set `gpu: L4`"}],
}


def group(**more) -> dict:
    return {
        "name": "A100",
        "memory_mib": 81920,
        "vendor": "nvidia",
        "availability": ["available", "no_quota"],
        "spot": ["spot", "on-demand"],
        "count": {"min": 1, "max": 8},
        "price": {"min": 1.1, "max": 2.5},
        "backends": ["aws", "remote"],
        "x_backends": ["aws", "local"],
    } | more


def test_offers_are_listed_with_what_was_asked_for(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan(None, [wire.offer(2.5, backend="aws", region="us-east-1", gpus=1)]))
    result = cli.run("offer", "--gpu", "24GB..80GB", "-b", "aws")
    lines = result.out.splitlines()
    assert lines[0] == " Project      main"
    assert [line.split()[0] for line in lines[1:4]] == ["Resources", "Spot", "Max"]
    assert lines[-2].split() == ["#", "BACKEND", "RESOURCES", "INSTANCE", "TYPE", "PRICE"]
    assert lines[-1].startswith(" 1  aws (us-east-1)  cpu=2 mem=8GB disk=100GB gpu=L4:24GB  local")
    assert "--fleet" in result.err


def test_nothing_but_what_is_asked_for_is_required(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan())
    cli.run("offer", "--gpu", "A100", "--fleet", "f1", "--max-price", "3")
    body = server.bodies("runs/get_plan")[0]
    asked = body["run_spec"]["configuration"]
    assert (body["for_offers_only"], body["max_offers"]) == (True, 50)
    assert asked["resources"]["disk"] is None
    assert asked["resources"]["cpu"]["count"]["min"] == 1
    assert asked["resources"]["gpu"]["name"] == ["A100"]
    assert (asked["fleets"][0]["name"], asked["max_price"]) == ("f1", 3.0)


def test_more_offers_than_are_shown_are_counted(cli: Cli, server: WireServer):
    plan = wire.run_plan()
    plan["job_plans"][0] |= {"total_offers": 70, "max_price": 9.5}
    server.on("runs/get_plan", plan)
    assert "Shown 1 of 70 offers, $9.5 max" in cli.run("offer", "--max-offers", "1").out
    assert server.bodies("runs/get_plan")[0]["max_offers"] == 1


def test_offers_as_json_are_one_document(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan(None, [wire.offer(2.5, backend="aws", region="us-east-1")]))
    found = json.loads(cli.run("offer", "--json").out)
    assert list(found) == ["project", "user", "requirements", "offers", "total_offers"]
    assert (found["offers"][0]["backend"], found["offers"][0]["price"]) == ("aws", 2.5)


def test_the_funnel_is_explained_with_what_would_help(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan(None, [], x_report=REPORT))
    out = cli.run("offer", "--gpu", "A100", "--explain").out
    assert "3 looked at, 0 left:" in out
    assert "3 x needs A100:1.. (nearest: L4:24GB)" in out
    assert "What would help: set `gpu: L4`" in out


def test_the_funnel_is_in_the_document_when_asked_for(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan(None, [], x_report=REPORT))
    assert json.loads(cli.run("offer", "--json", "--explain").out)["report"] == REPORT


def test_without_any_offer_the_reasons_are_shown_unasked(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan(None, [], x_report=REPORT))
    assert "No matching instance offers available." in cli.run("offer").out


@pytest.mark.parametrize(
    ("words", "answer", "headers", "row"),
    [
        ("gpu", {}, "# GPU SPOT $/GPU BACKENDS", "1 A100:80GB:1..8 spot, on-demand $1.1..$2.5 aws, local no quota"),
        (
            "gpu,backend,count",
            {"backend": "aws", "x_backend": "aws", "regions": ["a", "b"], "count": {"min": 8, "max": 8}},
            "# GPU SPOT $/GPU BACKEND REGIONS",
            "1 A100:80GB:8 spot, on-demand $1.1..$2.5 aws a, b no quota",
        ),
        (
            "gpu,backend,region",
            {"backend": "aws", "x_backend": "aws", "region": "a", "price": {"min": 2, "max": 2}},
            "# GPU SPOT $/GPU BACKEND REGION",
            "1 A100:80GB:1..8 spot, on-demand $2 aws a no quota",
        ),
    ],
)
def test_offers_are_grouped(cli: Cli, server: WireServer, words: str, answer: dict, headers: str, row: str):
    server.on("runs/get_plan", wire.run_plan()).on("gpus/list", {"gpus": [group(**answer)]})
    lines = cli.run("offer", "--group-by", words).out.splitlines()
    assert " ".join(lines[-2].split()) == headers
    assert " ".join(lines[-1].split()) == row
    assert server.bodies("gpus/list")[0]["group_by"] == words.split(",")[1:]


def test_groups_are_of_spot_and_on_demand_offers_alike(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan()).on("gpus/list", {"gpus": [group()]})
    cli.run("offer", "--group-by", "gpu")
    cli.run("offer", "--group-by", "gpu", "--on-demand")
    asked = [body["run_spec"]["configuration"]["spot_policy"] for body in server.bodies("gpus/list")]
    assert asked == ["auto", "on-demand"]


def test_groups_as_json_are_one_document(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan()).on("gpus/list", {"gpus": [group()]})
    found = json.loads(cli.run("offer", "--group-by", "gpu", "--json").out)
    assert found["group_by"] == ["gpu"]
    assert found["gpus"][0]["backends"] == ["aws", "local"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("foo", "Invalid group-by value: 'foo'. Valid choices are: backend, count, gpu, region"),
        ("backend", "Cannot group by 'backend' without also grouping by 'gpu'"),
        ("gpu,region", "Cannot group by 'region' without also grouping by 'backend'"),
    ],
)
def test_groups_that_make_no_sense_are_a_usage_error(cli: Cli, words: str, message: str):
    result = cli.run("offer", "--group-by", words)
    assert result.code == 2
    assert message in result.err
