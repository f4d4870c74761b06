"""Why hosts of one's own do not fit, as the plan tells it."""

from __future__ import annotations

from typing import Any

from dstack.cli.render.funnel import explained, hosts, no_offers


def report(count: int, more: int = 0) -> dict[str, Any]:
    named = [
        {"instance": f"lab-{n}", "host": f"10.0.0.{n}", "reason": "busy: it runs another job"} for n in range(count)
    ]
    drops = [{"stage": "busy", "reason": "all that fit are busy", "count": count + more}]
    return {"considered": count + more, "drops": drops, "hosts": named, "more_hosts": more}


def test_each_host_has_an_aligned_line():
    named = report(11)
    assert hosts(named)[0] == " Hosts that do not fit now:"
    assert hosts(named)[1] == "  lab-0   10.0.0.0   busy: it runs another job"
    assert hosts(named)[11] == "  lab-10  10.0.0.10  busy: it runs another job"


def test_many_hosts_are_folded_with_the_option_that_names_them():
    lines = no_offers(report(7, more=3), unfold="-v")
    assert lines[-6:-1] == [f"  lab-{n}  10.0.0.{n}  busy: it runs another job" for n in range(5)]
    assert lines[-1] == "  and 5 more; -v names them"
    assert explained(report(7, more=3))[-1] == "  and 3 more"


def test_where_no_host_is_left_out_nothing_is_said_of_hosts():
    assert hosts(report(0)) == [] and hosts(None) == []
