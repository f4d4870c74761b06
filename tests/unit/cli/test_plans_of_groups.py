"""The plan of a task whose nodes differ."""

from __future__ import annotations

import copy

from dstack.cli.render.plan import run_plan
from support import wire_json as wire


def test_each_kind_of_node_has_its_resources_and_offers():
    plan = wire.run_plan()
    first = plan["job_plans"][0]
    other = copy.deepcopy(first)
    other["job_spec"]["job_num"] = 1
    other["job_spec"]["requirements"]["resources"]["cpu"] = {"arch": None, "count": {"min": 64, "max": None}}
    other["offers"] = []
    third = copy.deepcopy(other)
    third["job_spec"]["job_num"] = 2
    plan["job_plans"] = [first, other, third]
    text = run_plan(plan)
    assert "task (nodes=3)" in text
    assert " Node 0: cpu=" in text
    assert " Nodes 1..2: cpu=64.." in text
    assert text.rstrip().endswith("no offers")
