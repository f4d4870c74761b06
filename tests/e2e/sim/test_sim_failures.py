"""What goes wrong at a simulated cloud, and what a person sees of it."""

from __future__ import annotations

from collections.abc import Callable

from e2e.sim.conftest import Cloud, fleet, task
from support.product import Product, eventually

GONE_S = 90.0
TAKEN_S = 4  # the job runs by then, however busy the machine is


def test_without_capacity_the_next_offer_is_taken_and_the_first_is_named(product: Product, sim: Callable[..., Cloud]):
    sim(failures=[{"kind": "no_capacity", "offers": ["small"]}])
    fleet(product, "cloud", nodes="0..1")
    product.cli("apply", "-f", task(product, "job"), "-y").ok()
    events = product.cli("event").ok().out
    assert "sim/east/small: No capacity for small in east" in events
    assert "sim/west/small: No capacity for small in west" in events
    assert "l4" in product.cli("fleet", "--json").ok().out


def test_a_run_that_found_nothing_says_which_offers_it_tried(product: Product, sim: Callable[..., Cloud]):
    cloud = sim(failures=[{"kind": "no_capacity", "offers": ["small"]}, {"kind": "quota", "offers": ["l4", "h100"]}])
    fleet(product, "cloud", nodes="0..1")
    assert product.cli("apply", "-f", task(product, "job"), "-y").code != 0
    why = product.cli("why", "job").text
    assert "sim/east/small" in why and "The quota for h100 in west is used up" in why
    assert cloud.machines() == []


def test_a_run_with_retry_waits_for_capacity(product: Product, sim: Callable[..., Cloud]):
    sim(offers=[{"instance_type": "only", "price": 1}], failures=[{"kind": "no_capacity", "times": 1}])
    fleet(product, "cloud", nodes="0..1")
    file = task(product, "job", retry={"on_events": ["no-capacity"], "duration": "5m"})
    product.cli("apply", "-f", file, "-y", "-d").ok()
    product.wait_status("job", "pending")
    assert product.wait_status("job", "done", "failed")["status"] == "done"


def test_an_interrupted_spot_run_is_submitted_again(product: Product, sim: Callable[..., Cloud]):
    cloud = sim(pretend={"duration": TAKEN_S + 2}, failures=[{"kind": "preemption", "after": TAKEN_S, "times": 1}])
    fleet(product, "cloud", nodes="0..1", spot_policy="spot")
    file = task(product, "job", spot_policy="spot", retry={"on_events": ["interruption"], "duration": "5m"})
    product.cli("apply", "-f", file, "-y", "-d").ok()
    product.wait_status("job", "pending")
    assert "took the spot instance back" in product.cli("event").ok().out
    assert product.wait_status("job", "done", "failed")["status"] == "done"
    assert len(cloud.machines()) == 1


def test_an_interrupted_run_without_retry_fails_with_the_reason(product: Product, sim: Callable[..., Cloud]):
    sim(pretend={"duration": 60}, failures=[{"kind": "preemption", "after": TAKEN_S}])
    fleet(product, "cloud", nodes="0..1", spot_policy="spot")
    said = product.cli("apply", "-f", task(product, "job", spot_policy="spot"), "-y")
    assert said.code == 1 and "took the spot instance back" in said.text


def test_a_lost_answer_leaves_no_second_machine(product: Product, sim: Callable[..., Cloud]):
    cloud = sim(failures=[{"kind": "result_lost", "times": 2}])
    fleet(product, "cloud", nodes="0..2")
    product.cli("apply", "-f", task(product, "job"), "-y").ok()
    assert len(cloud.machines()) == 1


def test_a_termination_that_fails_three_times_ends_with_the_machine_gone(product: Product, sim: Callable[..., Cloud]):
    cloud = sim(failures=[{"kind": "terminate_fails", "times": 3}])
    fleet(product, "one", nodes=1)
    assert len(cloud.machines()) == 1
    product.cli("fleet", "delete", "one", "-y", deadline_s=GONE_S).ok()
    eventually(lambda: not cloud.machines(), GONE_S, lambda: "the machine is still there")


def test_a_slow_provider_is_waited_for(product: Product, sim: Callable[..., Cloud]):
    sim(failures=[{"kind": "slow", "delay": 3, "times": 1}], delays={"boot": 1})
    fleet(product, "cloud", nodes="0..1")
    assert product.cli("apply", "-f", task(product, "job"), "-y").code == 0
