"""Runs: submitting, replacing, changing, listing, stopping, deleting."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import event, update

from dstack.model.run import Run, RunStatus
from dstack.server.services.rows import change_rows
from dstack.server.store.tables import TABLES
from support.http_api import DEADLINE_S, Api, task

CHANGED = "Failed to apply plan. Resource has been changed. Try again or use force apply."


async def submit(api: Api, *commands: str, **fields: Any) -> dict[str, Any]:
    return await api.call("runs/apply", {"plan": {"run_spec": task(*commands, **fields)}, "force": False})


async def finish(api: Api, run: dict[str, Any], status: RunStatus = RunStatus.DONE) -> None:
    """What the engine would have decided in the end."""
    async with api.parts.database.write() as connection:
        await change_rows(connection, Run, [run["id"]], status=status)


async def list_runs(api: Api, **query: Any) -> list[dict[str, Any]]:
    return await api.call("/api/runs/list", {"project_name": "main", **query})


async def test_a_submitted_run_can_be_got_by_name_and_by_id(api: Api) -> None:
    run = await submit(api, "echo hi", name="t1")
    assert run["status"] == "submitted"
    assert run["jobs"][0]["job_spec"]["job_name"] == "t1-0-0"
    assert run["latest_job_submission"]["status"] == "submitted"
    assert await api.call("runs/get", {"run_name": "t1"}) == await api.call("runs/get", {"id": run["id"]})


async def test_a_run_without_a_name_gets_one(api: Api) -> None:
    first, second = await submit(api, "true"), await submit(api, "true")
    assert first["run_spec"]["run_name"] != second["run_spec"]["run_name"]
    assert first["jobs"][0]["job_spec"]["job_name"].startswith(first["run_spec"]["run_name"])


async def test_an_unknown_run_does_not_exist(api: Api) -> None:
    answer = await api.call("runs/get", {"run_name": "nope"}, status=400)
    assert answer["detail"] == [{"msg": "Run nope not found", "code": "resource_not_exists"}]
    assert answer["hint"] == "`dstack ps -a` lists the runs of the project"


async def test_an_illegal_name_is_refused(api: Api) -> None:
    answer = await api.call("runs/apply", {"plan": {"run_spec": task("true") | {"run_name": "No Good"}}}, status=400)
    assert "run_name" in answer["detail"][0]["msg"]


async def test_an_active_run_is_not_replaced_by_a_plan_that_did_not_know_it(api: Api) -> None:
    await submit(api, "true", name="t1")
    body = {"plan": {"run_spec": task("true", name="t1"), "current_resource": None}, "force": False}
    answer = await api.call("runs/apply", body, status=400)
    assert answer["detail"][0]["msg"] == CHANGED


async def test_a_plan_for_a_run_that_has_changed_since_is_refused(api: Api) -> None:
    run = await submit(api, "true", name="t1")
    spec = task("true", name="t1", priority=5)
    await api.call("runs/apply", {"plan": {"run_spec": spec, "current_resource": run}, "force": False})
    answer = await api.call("runs/apply", {"plan": {"run_spec": spec, "current_resource": run}}, status=400)
    assert answer["detail"][0]["msg"] == CHANGED


async def test_the_priority_of_an_active_run_is_changed_in_place(api: Api) -> None:
    run = await submit(api, "true", name="t1")
    spec = task("true", name="t1", priority=7)
    plan = await api.call("runs/get_plan", {"run_spec": spec})
    assert plan["action"] == "update"
    assert plan["current_resource"]["id"] == run["id"]
    changed = await api.call("runs/apply", {"plan": {"run_spec": spec, "current_resource": plan["current_resource"]}})
    assert changed["id"] == run["id"]
    assert changed["run_spec"]["configuration"]["priority"] == 7


async def test_a_plan_with_no_difference_is_an_update_that_changes_nothing(api: Api) -> None:
    run = await submit(api, "true", name="t1")
    plan = await api.call("runs/get_plan", {"run_spec": task("true", name="t1")})
    assert plan["action"] == "update"
    assert plan["effective_run_spec"]["configuration"] == plan["current_resource"]["run_spec"]["configuration"]
    same = await api.call("runs/apply", {"plan": {"run_spec": plan["run_spec"], "current_resource": run}})
    assert same["id"] == run["id"]


async def test_what_cannot_be_changed_in_place_is_named(api: Api) -> None:
    run = await submit(api, "true", name="t1")
    spec = task("false", name="t1")
    assert (await api.call("runs/get_plan", {"run_spec": spec}))["action"] == "create"
    answer = await api.call("runs/apply", {"plan": {"run_spec": spec, "current_resource": run}}, status=400)
    assert "commands cannot be changed in place" in answer["detail"][0]["msg"]
    assert answer["hint"] == "stop it first: `dstack stop t1`"


async def test_a_finished_run_gives_its_name_to_the_next_and_stays_in_the_list(api: Api) -> None:
    first = await submit(api, "true", name="t1")
    await finish(api, first)
    second = await submit(api, "true", name="t1")
    assert (await api.call("runs/get", {"run_name": "t1"}))["id"] == second["id"]
    assert {run["id"]: run["deleted"] for run in await list_runs(api)} == {first["id"]: True, second["id"]: False}
    assert (await api.call("runs/get", {"id": first["id"]}))["deleted"]


async def test_two_submissions_of_one_name_at_once_make_one_run(api: Api) -> None:
    body = {"plan": {"run_spec": task("true", name="t1")}, "force": False}
    answers = await asyncio.gather(*(api.raw("runs/apply", body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


async def test_active_runs_are_listed_alone_when_asked_for(api: Api) -> None:
    first = await submit(api, "true", name="t1")
    await submit(api, "true", name="t2")
    await finish(api, first)
    assert [run["run_spec"]["run_name"] for run in await list_runs(api, only_active=True)] == ["t2"]


async def test_pages_of_runs_join_without_gap_or_overlap(api: Api) -> None:
    for n in range(5):
        await submit(api, "true", name=f"t{n}")
    names: list[str] = []
    page = await list_runs(api, limit=2)
    while page:
        names += [run["run_spec"]["run_name"] for run in page]
        last = page[-1]
        page = await list_runs(api, limit=2, prev_submitted_at=last["submitted_at"], prev_run_id=last["id"])
    assert names == ["t4", "t3", "t2", "t1", "t0"]


async def test_runs_of_a_repository_are_found_beyond_a_page_of_others(api: Api) -> None:
    for name, repo in (("ours", "lab"), ("theirs", "other"), ("nobodys", None)):
        await api.call("runs/apply", {"plan": {"run_spec": task("true", name=name) | {"repo_id": repo}}})
    assert [run["run_spec"]["run_name"] for run in await list_runs(api, repo_id="lab", limit=1)] == ["ours"]


async def test_a_page_costs_the_same_number_of_statements_as_one_run(api: Api) -> None:
    async def statements(limit: int) -> int:
        counted = 0

        def count(*_: Any) -> None:
            nonlocal counted
            counted += 1

        engine = api.parts.database.reading
        event.listen(engine, "before_cursor_execute", count)
        await list_runs(api, limit=limit)
        event.remove(engine, "before_cursor_execute", count)
        return counted

    for n in range(6):
        await submit(api, "true", name=f"t{n}")
    assert await statements(1) == await statements(6) > 0


async def test_runs_of_one_user_are_listed_and_an_unknown_user_does_not_exist(api: Api) -> None:
    other = await api.user("other", "user")
    await submit(api, "true", name="mine")
    await submit(other, "true", name="theirs")
    assert [run["user"] for run in await list_runs(api, username="other")] == ["other"]
    answer = await api.call("/api/runs/list", {"username": "nobody"}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"


async def test_runs_of_projects_that_are_not_ones_own_are_not_listed(api: Api) -> None:
    await submit(api, "true", name="t1")
    stranger = await api.user("stranger")
    assert await list_runs(stranger) == []
    assert await stranger.call("/api/runs/list", {}) == []


async def test_jobs_and_submissions_are_left_out_as_asked(api: Api) -> None:
    await submit(api, "true", name="t1")
    assert (await list_runs(api, include_jobs=False))[0]["jobs"] == []
    assert (await list_runs(api, job_submissions_limit=0))[0]["jobs"][0]["job_submissions"] == []
    assert len((await list_runs(api, job_submissions_limit=1))[0]["jobs"][0]["job_submissions"]) == 1


async def test_a_limit_above_a_hundred_is_refused(api: Api) -> None:
    await api.call("/api/runs/list", {"limit": 101}, status=422)


async def test_a_stop_is_recorded_as_an_intent_and_makes_the_run_due(api: Api) -> None:
    run = await submit(api, "true", name="t1")
    later = api.parts.clock.now() + 3600  # a run that was just submitted is due anyway
    async with api.parts.database.write() as connection:
        await connection.execute(update(TABLES["run"]).values(due_at=later))
    assert await api.call("runs/stop", {"runs_names": ["t1", "unknown"], "abort": False}) is None
    after = await api.call("runs/get", {"run_name": "t1"})
    assert (after["status"], after["x_stop_requested"]) == ("submitted", True)
    claims = await api.parts.store.claim_due(api.parts.clock.now(), "someone", 10, 60.0)
    assert run["id"] in {claim.ref.id for claim in claims}


async def test_active_runs_are_not_deleted_and_finished_ones_are(api: Api) -> None:
    first, _ = await submit(api, "true", name="t1"), await submit(api, "true", name="t2")
    await finish(api, first)
    answer = await api.call("runs/delete", {"runs_names": ["t1", "t2"]}, status=400)
    assert answer["detail"][0]["msg"] == "Cannot delete active runs: ['t2']"
    await api.call("runs/get", {"run_name": "t1"})
    assert await api.call("runs/delete", {"runs_names": ["t1", "unknown"]}) is None
    await api.call("runs/get", {"run_name": "t1"}, status=400)


async def test_watch_answers_at_once_what_is_new_and_waits_for_what_is_not(api: Api) -> None:
    await submit(api, "true", name="t1")
    async with asyncio.timeout(DEADLINE_S):
        first = await api.call("runs/watch", {"run_name": "t1", "seen": None, "wait_s": 60})
    quiet = await api.call("runs/watch", {"run_name": "t1", "seen": first["seen"], "wait_s": 0})
    assert quiet["seen"] == first["seen"]
    waiting = asyncio.create_task(api.call("runs/watch", {"run_name": "t1", "seen": first["seen"], "wait_s": 60}))
    await api.call("runs/stop", {"runs_names": ["t1"]})
    changed = await waiting
    assert changed["seen"] > first["seen"]
    assert changed["run"]["x_stop_requested"]


async def test_watch_of_an_unknown_run_answers_at_once(api: Api) -> None:
    async with asyncio.timeout(DEADLINE_S):
        answer = await api.call("runs/watch", {"run_name": "nope", "seen": 1, "wait_s": 60})
    assert answer["run"] is None


async def test_why_says_what_a_run_waits_for(api: Api) -> None:
    await submit(api, "true", name="t1")
    answer = await api.call("runs/why", {"run_name": "t1"})
    assert answer["jobs"][0]["waiting_for"] == "a free instance or an offer"
    assert answer["lines"] == ["t1 is submitted", "It waits for a free instance or an offer."]
