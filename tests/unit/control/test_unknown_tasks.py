"""A host where tasks run that no job answers for, as after an old backup was restored: it is left to them."""

from __future__ import annotations

from typing import Any

import pytest

from dstack.control import invariants
from dstack.control.fleet.decide import decide as decide_fleet
from dstack.control.instance.decide import decide
from dstack.control.instance.remarks import remark
from dstack.control.kernel import Decision
from dstack.control.run.decide import queue_ref
from dstack.control.scheduling.candidates import candidates
from dstack.control.snapshots import FleetSnapshot, InstanceSnapshot
from dstack.model.instance import HostInfo, Instance, InstanceStatus
from dstack.model.observation import LinkUp
from support.builders import PROJECT, T0, changed, fleet, inbox, instance, messages, requirements

IDLE_S = 300.0
OF = fleet(nodes="0..1")


def host(unknown_tasks: int = 0) -> HostInfo:
    return HostInfo(hostname="h", boot_id="b", unknown_tasks=unknown_tasks)


def over(unknown_tasks: int, num: int = 0, **fields: Any) -> Instance:
    """Long over its time to idle."""
    times = {"idle_since": T0 - 100 * IDLE_S, "idle_deadline": T0 - 99 * IDLE_S, "idle_duration_s": IDLE_S}
    return instance(num, of=OF, host=host(unknown_tasks), **{**times, **fields})


def met(i: Instance, unknown_tasks: int) -> Decision:
    """Its agent has told what runs there."""
    return decide(InstanceSnapshot(i, OF, (), (), inbox(LinkUp(host=host(unknown_tasks)))), T0)


def test_what_runs_there_is_an_event_and_told_of_the_instance():
    i = over(0)
    d = met(i, 2)
    assert messages(d) == ["Instance runs 2 tasks that no job of this server answers for: it takes no new jobs"]
    assert remark(i.replace(**changed(d, i))) == "runs 2 tasks that no job of this server answers for"


def test_the_same_told_again_is_no_news():
    assert messages(met(over(1), 1)) == []


def test_no_new_job_is_placed_there_and_the_reason_says_why():
    found = candidates(requirements(reuse_only=True), [OF], [over(1)], [])
    assert found.candidates == ()
    assert found.best_reason == "occupied: it runs what no job of this server answers for"


@pytest.mark.parametrize(("unknown_tasks", "gone"), [(1, 0), (0, 2)])
def test_an_instance_that_is_over_its_time_or_above_the_maximum_goes_only_if_nothing_runs_there(
    unknown_tasks: int, gone: int
):
    instances = over(unknown_tasks), over(unknown_tasks, 1)
    d = decide_fleet(FleetSnapshot(OF, instances, ()), T0)
    assert sum("terminate_requested" in changed(d, i) for i in instances) == gone


def test_when_they_have_ended_its_time_to_idle_begins_and_jobs_are_placed_again():
    i = over(1)
    d = met(i, 0)
    assert messages(d) == ["The tasks that no job of this server answers for have ended"]
    now = changed(d, i)
    assert (now["idle_since"], now["idle_deadline"]) == (T0, T0 + IDLE_S)
    assert {queue_ref(PROJECT), OF.ref} <= set(d.wakes), "the fleet may have more than its maximum by now"
    assert len(candidates(requirements(reuse_only=True), [OF], [i.replace(**now)], []).candidates) == 1


def test_one_that_works_for_a_job_has_no_time_to_idle_when_they_have_ended():
    i = instance(of=OF, host=host(1), status=InstanceStatus.BUSY, busy_blocks=1)
    assert "idle_deadline" not in changed(met(i, 0), i)


@pytest.mark.parametrize(("unknown_tasks", "broken"), [(1, 0), (0, 1)])
def test_one_that_is_kept_for_them_breaks_no_invariant(unknown_tasks: int, broken: int):
    rows = OF, over(unknown_tasks)
    due = {row.ref: T0 for row in rows}
    found = invariants.broken(invariants.View(now=T0, rows=rows, due=due, acts={}, machines={rows[1].token}))
    assert sum("idles long after its time" in one for one in found) == broken
