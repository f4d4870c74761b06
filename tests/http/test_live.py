"""A whole server: what a client sees while a job really runs."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from sqlalchemy import insert

from dstack.model.job import Job
from dstack.model.row import Ref
from dstack.model.run import Run
from dstack.server.services.rows import change_rows
from dstack.server.store.commit import wake
from dstack.server.store.tables import job_metric
from support.http_api import Api, ended, fleet, reached, task, watched


async def log_of(live: Api, submission_id: str) -> bytes:
    """The whole log of a job that is over."""
    lines = (await live.raw("logs/follow", {"job_submission_id": submission_id})).text.splitlines()
    return b"".join(base64.b64decode(json.loads(line).get("data", "")) for line in lines)


async def test_a_task_runs_and_its_log_and_exit_code_are_told(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    await live.call("runs/apply", {"plan": {"run_spec": task("echo hi", "exit 3", name="t1")}})
    run = await ended(live, "t1")
    assert (run["status"], run["status_message"], run["x_exit_status"]) == ("failed", "exited (3)", 3)
    assert run["termination_reason"] == "job_failed"
    submission = run["latest_job_submission"]
    assert submission["termination_reason"] == "container_exited_with_error"
    assert submission["job_provisioning_data"]["x_backend"] == "local"
    assert submission["job_provisioning_data"]["dockerized"] is False
    lines = (await live.raw("logs/follow", {"job_submission_id": submission["id"]})).text.splitlines()
    assert base64.b64decode(json.loads(lines[0])["data"]) == b"hi\n"
    assert json.loads(lines[-1])["end"]


async def test_a_secret_reaches_the_job_and_nothing_else(live: Api) -> None:
    await live.call("secrets/create_or_update", {"name": "KEY", "value": "canary-4711"})
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    spec = task('test "$KEY" = "canary-$((4000 + 711))"', name="t1", env={"KEY": "${{ secrets.KEY }}"})
    await live.call("runs/apply", {"plan": {"run_spec": spec}})
    run = await ended(live, "t1")
    assert run["status"] == "done"
    assert "canary-4711" not in str(run["jobs"]) + str(await live.call("/api/events/list", {}))


async def test_a_stopped_run_ends_stopped(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    await live.call("runs/apply", {"plan": {"run_spec": task("echo up", "sleep 600", name="t1")}})
    await reached(live, "t1", "running")
    await live.call("runs/stop", {"runs_names": ["t1"], "abort": False})
    run = await ended(live, "t1")
    assert (run["status"], run["status_message"]) == ("terminated", "stopped")
    events = await live.call("/api/events/list", {"target_runs": [run["id"]], "ascending": True})
    assert "STOPPED_BY_USER" in " ".join(event["message"] for event in events)


async def test_a_scheduled_task_runs_at_its_time_and_then_waits_for_the_next(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    spec = task("echo tick", name="t1", schedule={"cron": "0 0 1 1 *"})
    plan = await live.call("runs/get_plan", {"run_spec": spec})
    run = await live.call("runs/apply", {"plan": {"run_spec": spec}})
    assert (run["status"], run["jobs"]) == ("pending", [])
    assert run["next_triggered_at"] == plan["x_next_triggered_at"]
    assert "-01-01 00:00 UTC" in run["x_waiting_for"]
    now = live.parts.clock.now()
    async with live.parts.database.write() as connection:
        await change_rows(connection, Run, [run["id"]], next_triggered_at=now)
        await wake(connection, [Ref("run", run["id"])], now)
    live.parts.engine.kick()
    again = await watched(live, "t1", lambda run: run["status"] == "pending" and len(run["jobs"]) == 1)
    assert again["next_triggered_at"] == run["next_triggered_at"]
    assert again["latest_job_submission"]["status"] == "done"
    await live.call("runs/stop", {"runs_names": ["t1"], "abort": False})
    assert (await ended(live, "t1"))["status_message"] == "stopped"


async def test_two_nodes_of_a_task_start_together_and_know_each_other(live: Api, tmp_path: Path) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet(placement="cluster")}})
    # Who opens a pipe waits for its other end: of nodes that start one after the other the first would never go on.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    know = 'echo "$DSTACK_NODE_RANK of $DSTACK_NODES_NUM, $(echo "$DSTACK_NODES_IPS" | wc -l) addresses"'
    meet = f'if [ "$DSTACK_NODE_RANK" = 0 ]; then echo met > {pipe}; else cat {pipe}; fi'
    await live.call("runs/apply", {"plan": {"run_spec": task(know, meet, name="t1", nodes=2)}})
    run = await ended(live, "t1")
    assert run["status"] == "done"
    last = [job["job_submissions"][-1] for job in run["jobs"]]
    assert [await log_of(live, one["id"]) for one in last] == [b"0 of 2, 2 addresses\n", b"1 of 2, 2 addresses\nmet\n"]
    assert len({one["job_provisioning_data"]["x_instance"] for one in last}) == 2


async def test_more_nodes_than_the_fleet_can_have_are_told_in_the_plan_and_as_the_reason(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet(placement="cluster")}})
    spec = task("true", name="t1", nodes=3)
    plan = await live.call("runs/get_plan", {"run_spec": spec})
    told = "3 nodes are needed at once, fleet 'here' can have 2"
    assert plan["x_notices"] == [f"nodes: {told}"]
    await live.call("runs/apply", {"plan": {"run_spec": spec}})
    assert told in (await ended(live, "t1"))["jobs"][0]["job_submissions"][-1]["termination_reason_message"]


async def test_a_run_whose_gpu_stands_idle_ends_by_its_utilization_policy(live: Api) -> None:
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    policy = {"min_gpu_utilization": 10, "time_window": "5m"}
    await live.call("runs/apply", {"plan": {"run_spec": task("sleep 600", name="t1", utilization_policy=policy)}})
    job_id = (await reached(live, "t1", "running"))["latest_job_submission"]["id"]
    now = live.parts.clock.now()
    # Later than what the agent of this machine, which has no such GPU, tells meanwhile.
    used = [{"uuid": "GPU-1", "memory_bytes": 0, "util_percent": percent} for percent in (90, 3, 3, 3, 3, 3, 3)]
    samples = [
        {"job_id": job_id, "at": now + 3600 + 60 * n, "sample": json.dumps({"gpus": [one]})}
        for n, one in enumerate(used)
    ]
    async with live.parts.database.write() as connection:
        await connection.execute(insert(job_metric), samples)
        await change_rows(connection, Job, [job_id], utilization_check_at=now)
        await wake(connection, [Ref("job", job_id)], now)
    live.parts.engine.kick()
    run = await ended(live, "t1")
    assert (run["status"], run["termination_reason"]) == ("terminated", "terminated_due_to_utilization_policy")
    message = run["latest_job_submission"]["termination_reason_message"]
    assert message == "A GPU was used less than 10% for 5m"
