"""A whole server: what a client sees while a job really runs."""

from __future__ import annotations

import base64
import json

from support.http_api import Api, ended, fleet, reached, task


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
