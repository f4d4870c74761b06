"""Each invariant speaks up when it is broken, and only then."""

from __future__ import annotations

from dstack.control.invariants import View, broken
from dstack.model.instance import InstanceStatus
from dstack.model.job import JobStatus
from dstack.model.row import Row
from dstack.model.run import RunStatus
from support.builders import T0, fleet, instance, job, jobs_of, place_on, run


def found(*rows: Row, now: float = T0, due: dict | None = None, **view) -> list[str]:
    known = {r.ref: None if r.terminal else now for r in rows}
    return broken(View(now, rows, known | (due or {}), view.pop("acts", set()), **view))


def test_a_healthy_moment_is_silent():
    f = fleet()
    i = instance(of=f, status=InstanceStatus.BUSY, busy_blocks=1)
    j = job(on=i, status=JobStatus.RUNNING)
    assert found(f, i, j, machines={i.token}, tasks={j.id: i.token}) == []


def test_a_living_row_that_is_never_due_is_forgotten():
    f = fleet()
    assert "never due" in found(f, due={f.ref: None})[0]


def test_blocks_that_nobody_holds_are_noticed():
    assert "1 blocks busy, its jobs hold 0" in found(fleet(), instance(status=InstanceStatus.BUSY, busy_blocks=1))[0]


def test_more_blocks_than_there_are_is_noticed():
    i = instance(status=InstanceStatus.BUSY, busy_blocks=2)
    assert "2 of 1 blocks busy" in found(fleet(), i, job(on=i, blocks=2))[0]


def test_a_machine_without_an_instance_is_lost():
    assert "no instance answers for it" in found(fleet(), machines={"m"})[0]


def test_a_machine_whose_instance_still_has_to_terminate_it_is_not_lost():
    i = instance(status=InstanceStatus.TERMINATED)
    assert found(fleet(), i, machines={i.token}, acts={(i.ref, "terminate_instance")}) == []


def test_processes_of_a_job_that_is_over_are_noticed():
    i = instance()
    j = job(status=JobStatus.DONE)
    assert "its processes still run" in found(fleet(), i, j, tasks={j.id: i.token})[0]


def test_a_fleet_over_its_maximum_is_noticed():
    f = fleet(nodes="0..1")
    assert "at most 1 has 2 instances" in found(f, instance(0, of=f), instance(1, of=f))[0]


def test_a_run_that_is_over_before_its_jobs_is_noticed():
    r = run(status=RunStatus.FAILED)
    assert "jobs that are not over" in found(r, *jobs_of(r))[0]


def test_half_a_gang_is_noticed():
    r = run(nodes=2)
    i = instance(status=InstanceStatus.BUSY, busy_blocks=1)
    first, second = jobs_of(r)
    placed = first.replace(status=JobStatus.PROVISIONING, instance_id=i.id, place=place_on(i))
    assert "1 of 2 nodes without a place" in found(fleet(), r, i, placed, second)[0]


def test_a_machine_that_idles_long_after_its_time_is_noticed():
    f = fleet(nodes="0..2")
    assert "idles long after its time" in found(f, instance(of=f, idle_deadline=T0 - 10_000))[0]


def test_a_machine_that_is_kept_for_the_minimum_may_idle():
    f = fleet(nodes="1..2")
    assert found(f, instance(of=f, idle_deadline=T0 - 10_000)) == []


def test_what_nobody_reads_is_noticed():
    f = fleet()
    assert "lies unread" in found(f, unread={f.ref: T0 - 1000})[0]


def test_a_stop_that_nobody_hears_is_noticed():
    r = run(stop_requested_at=T0 - 1000)
    assert "was asked to stop" in found(r, *jobs_of(r))[0]
