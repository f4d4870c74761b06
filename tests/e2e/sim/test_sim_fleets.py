"""Fleets over a simulated cloud: from zero, with a minimum, reused, chosen, and gone when nobody needs them."""

from __future__ import annotations

from collections.abc import Callable

from e2e.sim.conftest import Cloud, fleet, task
from support.product import Product, eventually

GONE_S = 60.0


def until(cloud: Cloud, count: int) -> None:
    eventually(lambda: len(cloud.machines()) == count, GONE_S, lambda: f"{len(cloud.machines())} exist, not {count}")


def test_a_fleet_from_zero_provisions_on_demand_and_idles_down(product: Product, sim: Callable[..., Cloud]):
    cloud = sim(delays={"create": 0.2, "boot": 0.3, "terminate": 0.3})
    fleet(product, "cloud", nodes="0..2", idle_duration="1s")
    assert cloud.machines() == []
    product.cli("apply", "-f", task(product, "job"), "-y").ok()
    assert product.run("job")["status"] == "done"
    until(cloud, 0)


def test_a_fixed_number_of_nodes_is_provisioned_at_once_and_deleted_with_the_fleet(
    product: Product, sim: Callable[..., Cloud]
):
    cloud = sim()
    fleet(product, "two", nodes=2)
    assert len(cloud.machines()) == 2
    product.cli("fleet", "delete", "two", "-y").ok()
    until(cloud, 0)


def test_reuse_takes_an_idle_machine_and_makes_none(product: Product, sim: Callable[..., Cloud]):
    cloud = sim()
    fleet(product, "empty", nodes="0..1")
    file = task(product, "first", creation_policy="reuse")
    assert "Could not reuse any instance" in product.cli("apply", "-f", file, "-y").text
    assert cloud.machines() == []
    product.cli("apply", "-f", task(product, "maker"), "-y").ok()
    product.cli("apply", "-f", task(product, "second", creation_policy="reuse"), "-y").ok()
    assert len(cloud.machines()) == 1


def test_a_run_uses_only_the_fleets_that_it_names(product: Product, sim: Callable[..., Cloud]):
    sim()
    fleet(product, "cheap", nodes="0..1")
    fleet(product, "fast", nodes="0..1", instance_types=["h100"])
    product.cli("apply", "-f", task(product, "job", fleets=["fast"]), "-y").ok()
    instances = {one["name"]: one["instances"] for one in product.cli("fleet", "--json").json()["fleets"]}
    assert instances["cheap"] == [] and len(instances["fast"]) == 1


def test_of_two_runs_that_wait_for_one_machine_the_one_of_higher_priority_goes_first(
    product: Product, sim: Callable[..., Cloud]
):
    sim(delays={"terminate": 12})  # within which both are submitted, however busy the machine is
    fleet(product, "one", nodes="0..1", idle_duration="0s")
    product.cli("apply", "-f", task(product, "before"), "-y").ok()
    eventually(lambda: "IDLE -> TERMINATING" in product.cli("event").out, GONE_S, lambda: "the machine stays")
    product.cli("apply", "-f", task(product, "low", priority=10), "-y", "-d").ok()
    product.cli("apply", "-f", task(product, "high", priority=90), "-y", "-d").ok()
    assert product.wait_status("high", "done", "failed")["status"] == "done"
    assert product.wait_status("low", "done", "failed")["status"] == "failed"


def test_a_restarted_server_finds_its_machines_and_their_jobs(product: Product, sim: Callable[..., Cloud]):
    cloud = sim(run="process")
    fleet(product, "cloud", nodes="0..1")
    file = product.task("job", "echo begun", f"until test -e {product.folder}/go; do sleep 0.1; done", "echo over")
    product.cli("apply", "-f", file, "-y", "-d").ok()
    product.wait_status("job", "running")
    product.stop(9)
    product.start()
    (product.folder / "go").touch()
    assert product.wait_status("job", "done", "failed")["status"] == "done"
    assert product.cli("logs", "job").ok().out.split() == ["begun", "over"]
    assert len(cloud.machines()) == 1
