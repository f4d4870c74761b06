"""Tasks on several nodes: all of them or none, in the order that was asked for, one end for all."""

from __future__ import annotations

import pytest

from dstack.control.job.decide import decide as decide_job
from dstack.control.kernel import Decision, Received
from dstack.control.queue.decide import decide as decide_queue
from dstack.control.run.decide import decide as decide_run
from dstack.control.run.submission import new_jobs
from dstack.control.snapshots import JobSnapshot, QueueSnapshot, RunSnapshot
from dstack.model.instance import Instance
from dstack.model.job import Job, JobStatus
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.observation import TaskReported
from dstack.model.row import Ref
from dstack.model.run import Run, RunStatus, RunTerminationReason
from support.builders import T0, changed, fleet, instance, jobs_of, messages, offer, place_on, queue, run, verbs

CLUSTER = fleet("c", placement="cluster", nodes="0..3")
SMALL = {"cpu": "1..", "memory": "1GB..", "disk": "10GB.."}


def machines(count: int) -> list[Instance]:
    return [instance(n, of=CLUSTER, busy_blocks=1) for n in range(count)]


def placed(r: Run, **fields) -> list[Job]:
    """The nodes of the run, each with a machine of its own."""
    on = machines(r.spec.configuration.node_count)
    return [
        j.replace(status=JobStatus.PROVISIONING, instance_id=i.id, place=place_on(i), **fields)
        for j, i in zip(jobs_of(r), on, strict=True)
    ]


def node(job: Job, *others: Job, ready: bool = True):
    i = machines(3)[job.job_num]
    return decide_job(JobSnapshot(job, i if ready else i.replace(linked=False), gang=others), T0)


def follow(r: Run, *jobs: Job):
    return decide_run(RunSnapshot(r, jobs), T0)


def wakes(d: Decision) -> list[Ref]:
    return [ref for ref in d.wakes if ref.kind == "job"]


def queued(r: Run, *, instances: tuple[Instance, ...] = (), offers=(offer(),), of=CLUSTER):
    (unit,) = decide_queue(QueueSnapshot(queue(), new_jobs(r, 0, T0), (of,), instances, offers), T0).units
    return unit


def test_a_node_whose_machine_is_there_waits_for_the_others_and_tells_the_run():
    first, second = placed(run(nodes=2))
    d = node(first, second)
    assert verbs(d) == []
    assert changed(d, first) == {"ready_since": T0}
    assert d.wakes == (Ref("run", first.run_id),)


def test_a_node_that_begins_to_run_tells_the_run():
    r = run(nodes=2)
    first, _ = placed(r, ready_since=T0, task_started=True)
    i, seen = machines(1)[0], Received(1, TaskReported(state="running", started_at=T0), T0)
    d = decide_job(JobSnapshot(first, i, inbox=(seen,)), T0)
    assert d.wakes == (Ref("run", r.id),)


def test_the_run_wakes_its_nodes_when_the_last_machine_is_there():
    r = run(nodes=3)
    first, second, third = placed(r, ready_since=T0)
    assert wakes(follow(r, first, second, third.replace(ready_since=None))) == []
    assert wakes(follow(r, first, second, third)) == [first.ref, second.ref, third.ref]


def test_the_run_leaves_nodes_alone_that_have_begun_to_start():
    r = run(nodes=2)
    first, second = placed(r, ready_since=T0)
    starting = first.replace(provisioning_deadline=T0 + 9)
    assert wakes(follow(r, starting, second)) == [second.ref]
    assert wakes(follow(r, starting, second.replace(task_started=True))) == []


@pytest.mark.parametrize(
    ("order", "running", "woken"),
    [("master-first", (), [0]), ("master-first", (0,), [1, 2]), ("workers-first", (), [1, 2]),
     ("workers-first", (1,), [2]), ("workers-first", (1, 2), [0])],
)  # fmt: skip
def test_the_run_wakes_the_nodes_whose_turn_it_is(order: str, running: tuple[int, ...], woken: list[int]):
    r = run(nodes=3, startup_order=order)
    nodes = placed(r, ready_since=T0)
    for n in running:
        nodes[n] = nodes[n].replace(status=JobStatus.RUNNING, task_started=True, running_since=T0)
    assert wakes(follow(r, *nodes)) == [nodes[n].ref for n in woken]


def test_nodes_start_when_all_have_their_machines():
    first, second = placed(run(nodes=2))
    assert verbs(node(second, first.replace(ready_since=T0))) == ["start_task"]


def test_a_node_that_waits_for_the_others_has_no_deadline_of_its_own():
    first, second = placed(run(nodes=2), provisioning_deadline=T0 + 1)
    assert changed(node(first, second), first)["provisioning_deadline"] is None


def test_a_ready_node_whose_machine_went_silent_has_a_deadline_when_its_turn_comes():
    first, second = placed(run(nodes=2), ready_since=T0)
    assert changed(node(first, second, ready=False), first)["provisioning_deadline"] > T0


@pytest.mark.parametrize(
    ("order", "first", "starts"),
    [("any", 0, True), ("any", 1, True), ("master-first", 0, True), ("master-first", 1, False),
     ("workers-first", 0, False), ("workers-first", 1, True)],
)  # fmt: skip
def test_nodes_start_in_the_order_that_was_asked_for(order: str, first: int, starts: bool):
    nodes = placed(run(nodes=3, startup_order=order), ready_since=T0)
    job = nodes.pop(first)
    assert verbs(node(job, *nodes)) == (["start_task"] if starts else [])


@pytest.mark.parametrize(("order", "later"), [("master-first", 1), ("workers-first", 0)])
def test_the_later_ones_start_when_the_earlier_ones_run(order: str, later: int):
    nodes = placed(run(nodes=2, startup_order=order), ready_since=T0)
    job = nodes.pop(later)
    assert verbs(node(job, *(j.replace(running_since=T0) for j in nodes))) == ["start_task"]


def test_a_failed_node_ends_the_others_and_is_named_as_the_reason():
    r = run(nodes=3, status=RunStatus.RUNNING)
    first, second, third = placed(r)
    failed = second.replace(
        status=JobStatus.TERMINATING,
        termination_reason=Reason.CONTAINER_EXITED_WITH_ERROR,
        termination_message="Exited with status 3",
        terminating_deadline=T0,
    )
    later = first.replace(**failed.model_dump(include={"status", "termination_reason"}), terminating_deadline=T0 + 9)
    d = follow(r, later, failed, third)
    why = "Node 1 (t1-1-0) failed: Exited with status 3"
    assert changed(d, r)["termination_message"] == why
    assert changed(d, third) == {"stop_reason": Reason.TERMINATED_BY_SERVER, "stop_message": why}


def test_with_master_done_the_end_of_the_master_ends_the_others_well():
    r = run(nodes=2, stop_criteria="master-done", status=RunStatus.RUNNING)
    first, second = placed(r)
    d = follow(r, first.replace(status=JobStatus.DONE, termination_reason=Reason.DONE_BY_RUNNER), second)
    assert changed(d, r)["termination_reason"] is RunTerminationReason.ALL_JOBS_DONE
    assert changed(d, second)["stop_reason"] is Reason.TERMINATED_BY_SERVER


@pytest.mark.parametrize(("criteria", "done"), [("all-done", 0), ("master-done", 1)])
def test_otherwise_a_node_that_is_done_leaves_the_others_alone(criteria: str, done: int):
    r = run(nodes=2, stop_criteria=criteria, status=RunStatus.RUNNING)
    nodes = placed(r)
    nodes[done] = nodes[done].replace(status=JobStatus.DONE, termination_reason=Reason.DONE_BY_RUNNER)
    assert messages(follow(r, *nodes)) == ["Run status changed RUNNING -> PROVISIONING"]


def test_nodes_of_groups_have_the_commands_and_resources_of_their_group():
    groups = [{"commands": ["a"], "resources": SMALL}, {"nodes": 2, "commands": ["b"], "resources": {"gpu": 1}}]
    specs = [j.spec for j in jobs_of(run(groups=groups, commands=[]))]
    assert [s.commands for s in specs] == [("a",), ("b",), ("b",)]
    assert [s.requirements.resources.gpu and s.requirements.resources.gpu.count.min for s in specs] == [0, 1, 1]
    assert [(s.job_num, s.jobs_per_replica, s.groups) for s in specs] == [(n, 3, (1, 2)) for n in range(3)]


def test_all_nodes_are_placed_in_one_region_of_a_cluster_or_none():
    both = (offer("a", region="east"), offer("a", region="west"))
    unit = queued(run(nodes=3, resources=SMALL), offers=both)
    assert len({c.row.offer.region for c in unit.creates}) == 1  # type: ignore[attr-defined]
    assert len(unit.creates) == 3


def test_more_nodes_than_a_fleet_can_have_are_told_with_their_number():
    r = run(nodes=5, resources=SMALL)
    unit = queued(r, instances=(machines(1)[0].replace(busy_blocks=0),))
    assert not unit.creates
    assert "5 nodes are needed at once, fleet 'c' can have 3" in messages(unit)[0]


def test_the_kind_of_node_for_which_there_is_nothing_is_the_reason():
    groups = [{"commands": ["a"], "resources": SMALL}, {"commands": ["b"], "resources": SMALL | {"gpu": "H100:8"}}]
    unit = queued(run(groups=groups, commands=[]))
    assert "gpu: needs nvidia:H100:8" in messages(unit)[0] or "gpu: needs H100:8" in messages(unit)[0]


def test_a_fleet_that_is_no_cluster_takes_no_several_nodes():
    unit = queued(run(nodes=2, resources=SMALL), of=fleet("c"))
    assert "fleet 'c' is no cluster" in messages(unit)[0]
