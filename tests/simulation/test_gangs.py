"""Tasks on several nodes and scheduled tasks in virtual time: together or not at all, again and again."""

from __future__ import annotations

from typing import Any

import pytest

from dstack.model.job import Job, JobStatus
from dstack.model.run import Run
from dstack.sim import scenario
from dstack.sim.faults import ALL
from dstack.sim.host import Script
from dstack.sim.simulation import START, Simulation

FEW = {"memory": "1GB..", "disk": "10GB..", "cpu": "1.."}


def wanted(sim: Simulation, name: str, *, scripts: dict[str, Script], **fields: Any) -> Run:
    """A run that is submitted at once."""
    row = scenario.run(name, START, resources=FEW, **fields)
    sim.people.scripts |= scripts
    scenario.submit(sim.world, row, START)
    sim.people.runs.append(row.ref)
    return row


def end_of(sim: Simulation, row: Run) -> Run:
    found = sim.world.rows[row.ref]
    assert isinstance(found, Run)
    return found


def jobs_of(sim: Simulation, row: Run) -> list[Job]:
    found = [j for j in sim.world.rows.values() if isinstance(j, Job) and j.run_id == row.id]
    return sorted(found, key=lambda j: (j.submission_num, j.job_num))


def test_a_node_that_fails_ends_the_others_which_name_it():
    sim = Simulation(1, jobs=0, hours=0.1, faults=())
    row = wanted(sim, "g", nodes=3, scripts={"g": Script(run_s=50_000), "g-1-0": Script(run_s=20, exit_code=3)})
    result = sim.run()
    assert not result.broken, result.story
    why = "Node 1 (g-1-0) failed: Exited with status 3"
    assert (end_of(sim, row).status, end_of(sim, row).termination_message) == ("failed", why)
    nodes = jobs_of(sim, row)
    assert [j.status for j in nodes] == [JobStatus.TERMINATED, JobStatus.FAILED, JobStatus.TERMINATED]
    assert {nodes[0].termination_message, nodes[2].termination_message} == {why}


def test_a_retried_gang_is_submitted_whole():
    sim = Simulation(1, jobs=0, hours=0.1, faults=())
    scripts = {"g": Script(run_s=600), "g-1-0": Script(run_s=20, exit_code=3)}
    row = wanted(sim, "g", nodes=2, retry={"duration": "2m"}, scripts=scripts)
    result = sim.run()
    assert not result.broken, result.story
    assert end_of(sim, row).termination_reason == "retry_limit_exceeded"
    nodes = jobs_of(sim, row)
    assert len(nodes) >= 6
    assert len(nodes) == 2 * (nodes[-1].submission_num + 1)


@pytest.mark.parametrize(("order", "earlier", "later"), [("master-first", 0, 1), ("workers-first", 1, 0)])
def test_nodes_start_one_after_another_when_that_is_asked_for(order: str, earlier: int, later: int):
    sim = Simulation(1, jobs=0, hours=0.1, faults=())
    row = wanted(sim, "g", nodes=2, startup_order=order, scripts={"g": Script(pull_s=90, run_s=200)})
    result = sim.run()
    assert not result.broken, result.story
    since = [j.running_since for j in jobs_of(sim, row)]
    first, second = since[earlier], since[later]
    assert first is not None and second is not None and second >= first + 90


def test_with_master_done_the_workers_end_with_the_master():
    sim = Simulation(1, jobs=0, hours=0.1, faults=())
    scripts = {"g": Script(run_s=50_000), "g-0-0": Script(run_s=30)}
    row = wanted(sim, "g", nodes=3, stop_criteria="master-done", scripts=scripts)
    result = sim.run()
    assert not result.broken, result.story
    assert end_of(sim, row).status == "done"
    assert [j.status for j in jobs_of(sim, row)] == [JobStatus.DONE, JobStatus.TERMINATED, JobStatus.TERMINATED]


@pytest.mark.parametrize("seed", range(8))
def test_gangs_of_all_kinds_end_whole_under_all_faults(seed: int):
    sim = Simulation(seed, jobs=0, hours=0.5, faults=ALL)
    orders = ("any", "master-first", "workers-first")
    for n, order in enumerate(orders):
        scripts = {f"g{n}": Script(pull_s=20, run_s=300), f"g{n}-1-0": Script(run_s=60, exit_code=n % 2)}
        wanted(sim, f"g{n}", nodes=2, startup_order=order, retry={"duration": "20m"}, scripts=scripts)
    result = sim.run()
    assert not result.broken, "\n".join([*result.broken, *result.story[-40:]])


@pytest.mark.parametrize("faults", [(), ("crash", "frozen-server")])
def test_a_schedule_starts_its_run_at_each_of_its_times_and_never_twice_at_once(faults: tuple[str, ...]):
    sim = Simulation(2, jobs=0, hours=1.0, faults=faults)
    row = wanted(sim, "s", schedule={"cron": "*/10 * * * *"}, scripts={"s": Script(run_s=30)})
    sim.clock.at(START + 3600, lambda: sim.world.intend(row.ref, START + 3600, stop_requested_at=START + 3600))
    result = sim.run()
    assert not result.broken, result.story
    starts = [j.submitted_at for j in jobs_of(sim, row)]
    assert len(starts) == 6
    assert all(0 <= at % 600 < 120 for at in starts)
