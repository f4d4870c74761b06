"""Money, ages, resources and tables as people read them."""

from __future__ import annotations

import pytest

from dstack.cli.render import values
from dstack.cli.render.fleets import instance_status
from dstack.cli.render.funnel import no_offers
from dstack.cli.render.specs import resources_text, retry_text
from dstack.cli.render.table import cells, table
from support import wire_json as wire

NOW = 1769860800.0  # 2026-01-31T12:00:00Z


@pytest.mark.parametrize(
    ("price", "text"),
    [(0, "$0"), (0.1624, "$0.1624"), (2.5, "$2.5"), (0.20160000000000003, "$0.2016"), (100.0, "$100")],
)
def test_prices_have_up_to_four_decimals_and_no_zeros_at_the_end(price: float, text: str):
    assert values.money(price) == text


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        ("2026-01-31T11:59:55Z", "now"),
        ("2026-01-31T11:59:30.5Z", "29 sec ago"),
        ("2026-01-31T11:59:00Z", "1 min ago"),
        ("2026-01-31T11:57:00Z", "3 mins ago"),
        ("2026-01-31T11:00:00Z", "1 hour ago"),
        ("2026-01-30T12:00:00Z", "yesterday"),
        ("2026-01-28T12:00:00Z", "3 days ago"),
        ("2026-01-17T12:00:00Z", "2 weeks ago"),
        ("2025-12-31T12:00:00Z", "1 month ago"),
        ("2024-01-31T12:00:00Z", "2 years ago"),
        (None, ""),
    ],
)
def test_ages_are_rounded_down_to_one_unit(instant: str | None, text: str):
    assert values.age(instant, NOW) == text


def test_resources_are_worded_as_runs_and_as_fleets_show_them():
    found = wire.offer(gpus=2, spot=True)["instance"]["resources"]
    assert values.resources(found) == "cpu=2 mem=8GB disk=100GB gpu=L4:24GB:2 (spot)"
    assert values.resources_old(found) == "2xCPU, 8GB, 2xL4 (24GB), 100GB (disk)"


def test_a_backend_that_the_api_has_no_word_for_shows_its_true_name():
    assert values.place(wire.offer()) == "local"
    assert values.place({"backend": "remote", "region": "remote"}) == "ssh (remote)"
    assert values.place({"backend": "gcp", "region": "us-west4"}) == "gcp (us-west4)"


def test_requirements_are_worded_as_they_are_written():
    spec = {
        "cpu": {"arch": "x86", "count": {"min": 2, "max": None}},
        "memory": {"min": 8.0, "max": None},
        "disk": {"size": {"min": 100.0, "max": None}},
        "gpu": {"name": ["A100"], "memory": {"min": 40, "max": 40}, "count": {"min": 2, "max": 2}},
    }
    assert resources_text(spec) == "cpu=x86:2.. mem=8GB.. disk=100GB.. gpu=A100:40GB:2"


@pytest.mark.parametrize(
    ("retry", "text"),
    [
        (None, "off"),
        ({"on_events": ["no-capacity"], "duration": 3600}, "1h[no-capacity]"),
        ({"on_events": ["no-capacity", "interruption", "error"], "duration": 5400}, "1h30m"),
    ],
)
def test_retry_policies_are_worded(retry: dict | None, text: str):
    assert retry_text(retry) == text


def test_shared_and_unreachable_instances_say_so():
    assert instance_status({"status": "busy", "busy_blocks": 2, "total_blocks": 8}) == "2/8 busy"
    assert instance_status({"status": "idle", "unreachable": True}) == "idle (unreachable)"


def test_tables_are_aligned_whatever_the_width_of_the_letters():
    text = table(("A", "B"), [("日本", "x"), ("\x1b[1mab\x1b[0m", "y")])
    lines = text.splitlines()
    assert [cells(line[: line.rindex(mark)]) for line, mark in zip(lines, "Bxy", strict=True)] == [7, 7, 7]


def test_a_table_without_a_screen_is_never_cut():
    assert "x" * 500 in table(("A", "B"), [("a", "x" * 500)])


def test_on_a_narrow_screen_the_widest_column_is_wrapped():
    lines = table(("NAME", "ERROR"), [("t1", "a rather long error text")], 24).splitlines()
    assert all(cells(line) <= 24 for line in lines)
    assert "".join(lines).replace(" ", "").endswith("errortext")


def test_the_funnel_without_a_report_says_only_that_nothing_fits():
    assert no_offers(None) == ["No matching instance offers available."]
