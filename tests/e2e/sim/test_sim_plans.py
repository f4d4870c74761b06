"""Plans over priced offers: the cheapest first, and every filter of a profile."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.sim.conftest import task
from support.product import Product

# What a run asks for, and the offers that its plan shows, in their order.
PLANS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "on-demand": ({}, ["small east 1.0", "small west 1.0", "l4 east 2.0", "h100 west 9.0"]),
    "spot": ({"spot_policy": "spot"}, ["small east 0.4", "small west 0.4", "l4 east 0.9"]),
    "auto": (
        {"spot_policy": "auto", "max_price": 1},
        ["small east 0.4", "small west 0.4", "l4 east 0.9", "small east 1.0", "small west 1.0"],
    ),
    "price": ({"max_price": 1.5}, ["small east 1.0", "small west 1.0"]),
    "region": ({"regions": ["WEST"]}, ["small west 1.0", "h100 west 9.0"]),
    "type": ({"instance_types": ["l4", "h100"]}, ["l4 east 2.0", "h100 west 9.0"]),
    "gpu": ({"resources": {"gpu": "24GB"}}, ["l4 east 2.0"]),
    "gpus": ({"resources": {"gpu": "H100:2"}}, ["h100 west 9.0"]),
    "memory": ({"resources": {"memory": "200GB.."}}, ["h100 west 9.0"]),
}


def shown(plan: dict[str, Any]) -> list[str]:
    offers = plan["job_plans"][0]["offers"]
    return [f"{o['instance']['name']} {o['region']} {o['price']}" for o in offers]


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_shows_the_offers_that_fit_the_cheapest_first(priced: Product, name: str):
    asked, expected = PLANS[name]
    plan = priced.cli("plan", "-f", task(priced, f"plan-{name}", **asked), "--max-offers", "10", "--json").json()
    assert shown(plan) == expected


def test_a_plan_that_nothing_fits_says_what_came_nearest(priced: Product):
    file = task(priced, "too-cheap", max_price=0.1)
    said = priced.cli("plan", "-f", file).text
    assert "max_price is $0.1 (nearest: $1)" in said


def test_the_plan_of_a_fleet_shows_regions_and_prices(priced: Product):
    file = priced.write("type: fleet\nname: other\nnodes: 0..1\nregions: [west]\nbackends: [sim]\n", "other.yml")
    said = priced.cli("plan", "-f", file).ok().out
    assert "sim      west    " in said and "$9" in said and "east" not in said


def test_offers_of_the_simulated_cloud_are_listed(priced: Product):
    said = priced.cli("offer", "--gpu", "H100").ok().out
    assert "h100" in said and "$9" in said and "l4" not in said
