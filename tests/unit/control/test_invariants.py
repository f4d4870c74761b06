"""Each invariant speaks up when it is broken, and only then."""

from __future__ import annotations

from collections import Counter

from dstack.control.invariants import View, broken
from dstack.model.instance import InstanceStatus
from dstack.model.job import JobStatus
from dstack.model.row import Row
from dstack.model.run import RunStatus
from support.builders import T0, fleet, instance, job, jobs_of, place_on, run


def found(*rows: Row, now: float = T0, due: dict | None = None, **view) -> list[str]:
    known = {r.ref: None if r.terminal else now for r in rows}
    return broken(View(now, rows, known | (due or {}), Counter(view.pop("acts", ())), **view))


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


def test_a_run_that_is_done_though_one_of_its_jobs_is_not_is_noticed():
    r = run(nodes=2, status=RunStatus.DONE)
    first, second = jobs_of(r)
    rows = r, first.replace(status=JobStatus.DONE), second.replace(status=JobStatus.FAILED)
    assert "is done and 1 of its 2 jobs are" in found(*rows)[0]


def test_a_run_that_runs_before_any_of_its_jobs_is_noticed():
    r = run(status=RunStatus.RUNNING)
    assert "is running and none of its jobs ever did" in found(r, *jobs_of(r))[0]


def test_a_run_that_does_not_hear_that_its_job_runs_is_noticed():
    r, i = run(), instance(status=InstanceStatus.BUSY, busy_blocks=1)
    (j,) = jobs_of(r)
    j = j.replace(status=JobStatus.RUNNING, running_since=T0 - 1000, instance_id=i.id, place=place_on(i))
    assert "is submitted and its job" in found(fleet(), i, r, j)[0]


def test_a_run_that_does_not_hear_that_its_jobs_ended_is_noticed():
    r = run(status=RunStatus.RUNNING)
    (j,) = jobs_of(r)
    ended = j.replace(status=JobStatus.DONE, running_since=T0 - 2000, finished_at=T0 - 1000)
    assert "all of its jobs have long ended" in found(r, ended)[0]


def test_what_had_ended_and_goes_on_is_noticed():
    f = fleet()
    assert f"had ended as terminated and is {f.status}" in found(f, ended={f.ref: "terminated"})[0]


def test_what_ended_in_another_way_than_before_is_noticed():
    j = job(status=JobStatus.FAILED)
    assert "had ended as done and is failed" in found(j, ended={j.ref: "done"})[0]


def test_two_unfinished_acts_of_one_kind_are_noticed():
    f = fleet()
    acts = [(f.ref, "create_instance")] * 2
    assert "has 2 unfinished acts create_instance" in found(f, acts=acts)[0]


def test_a_row_that_is_over_and_still_due_is_noticed():
    j = job(status=JobStatus.DONE)
    assert "is done and still due" in found(j, due={j.ref: T0})[0]


def test_a_job_that_runs_on_another_machine_than_its_own_is_noticed():
    i, other = instance(0, status=InstanceStatus.BUSY, busy_blocks=1), instance(1)
    j = job(on=i, status=JobStatus.RUNNING)
    assert "not its instance's" in found(fleet(), i, other, j, tasks={j.id: other.token})[0]


def test_half_a_gang_is_noticed():
    r = run(nodes=2)
    i = instance(status=InstanceStatus.BUSY, busy_blocks=1)
    first, second = jobs_of(r)
    placed = first.replace(status=JobStatus.PROVISIONING, instance_id=i.id, place=place_on(i))
    assert "1 of 2 nodes without a place" in found(fleet(), r, i, placed, second)[0]


def test_a_gang_that_was_submitted_in_part_is_noticed():
    r = run(nodes=2)
    assert "submitted with 1 of 2 nodes" in found(r, jobs_of(r)[0])[0]


def test_a_gang_that_goes_on_without_one_of_its_nodes_is_noticed():
    r = run(nodes=2, status=RunStatus.RUNNING)
    i = instance(status=InstanceStatus.BUSY, busy_blocks=1)
    first, second = jobs_of(r)
    first = first.replace(status=JobStatus.RUNNING, running_since=T0 - 2000, instance_id=i.id, place=place_on(i))
    second = second.replace(status=JobStatus.FAILED, finished_at=T0 - 1000)
    assert f"goes on without {second.spec.name}" in found(fleet(), i, r, first, second)[0]


def test_a_gang_that_runs_in_part_is_noticed():
    r = run(nodes=2, status=RunStatus.RUNNING)
    i, other = (instance(n, status=InstanceStatus.BUSY, busy_blocks=1) for n in range(2))
    first, second = jobs_of(r)
    first = first.replace(status=JobStatus.RUNNING, running_since=T0, instance_id=i.id, place=place_on(i))
    second = second.replace(status=JobStatus.PROVISIONING, instance_id=other.id, place=place_on(other))
    assert "runs on some nodes before" in found(fleet(), i, other, r, first, second)[0]


def test_a_machine_that_idles_without_a_time_to_go_is_noticed():
    assert "has no time at which it goes" in found(fleet(), instance(idle_duration_s=300.0))[0]


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
