"""What is said to help, when nothing fits."""

from dstack.cli.render.funnel import smallest_change

SPOT = {"stage": "spot", "reason": "needs on-demand", "count": 3, "hint": "set `spot_policy: auto`"}
ARM = {"stage": "cpu", "reason": "needs arm cores", "count": 3, "hint": None}


def test_the_servers_own_answer_is_taken():
    assert smallest_change({"hint": "set `max_price: 2`", "drops": [SPOT]}) == "set `max_price: 2`"


def test_a_change_is_not_said_to_help_where_a_later_filter_has_none():
    assert smallest_change({"drops": [SPOT, ARM]}) is None


def test_without_an_answer_the_filter_that_dropped_last_has_it():
    assert smallest_change({"drops": [ARM, SPOT]}) == "set `spot_policy: auto`"
