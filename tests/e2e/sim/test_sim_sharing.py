"""Machines that jobs share, jobs that have several machines, and limits, over a simulated cloud."""

from __future__ import annotations

from collections.abc import Callable

from e2e.sim.conftest import Cloud, fleet, task
from support.product import Product

ONE_GPU = {"gpu": "H100:1", "memory": "64GB.."}
LONG = {"duration": 600}


def test_two_runs_share_a_machine_that_is_cut_into_blocks_and_each_pays_its_part(
    product: Product, sim: Callable[..., Cloud]
):
    cloud = sim(pretend=LONG)
    fleet(product, "shared", nodes="0..1", blocks="auto")
    for name in ("first", "second"):
        product.cli("apply", "-f", task(product, name, resources=ONE_GPU), "-y", "-d").ok()
        assert product.wait_status(name, "running", "failed")["status"] == "running"
    assert len(cloud.machines()) == 1
    shown = product.cli("ps", "-v").out
    assert shown.count("h100 (1/2)") == 2
    assert shown.count("$4.5") == 2
    third = task(product, "third", resources=ONE_GPU)
    assert "all that fit are busy" in product.cli("plan", "-f", third).out
    product.cli("apply", "-f", third, "-y", "-d").ok()
    assert product.wait_status("third", "running", "failed")["status"] == "failed"


def test_nodes_of_a_task_have_a_machine_each_and_all_end_when_one_runs_out_of_time(
    product: Product, sim: Callable[..., Cloud]
):
    cloud = sim(pretend=LONG)
    fleet(product, "cluster", nodes="0..2", placement="cluster")
    file = task(product, "pair", nodes=2, max_duration="3s", stop_duration="1s")
    ended = product.cli("apply", "-f", file, "-y")
    assert "max_duration of 3s" in ended.text
    run = product.run("pair")
    assert (run["status"], len(run["jobs"]), len(cloud.machines())) == ("terminated", 2, 2)
    regions = {job["job_submissions"][-1]["job_provisioning_data"]["region"] for job in run["jobs"]}
    assert len(regions) == 1
