"""Runs: plan, apply, read, watch, stop, delete, explain."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import (
    ApplyRunPlan,
    DeleteRuns,
    GetRun,
    GetRunPlan,
    ListRuns,
    RunName,
    StopRuns,
    WatchRun,
)
from dstack.server.routes.access import Caller, Member, PartsOf
from dstack.server.routes.finished import FinishedRuns
from dstack.server.routes.reply import nothing, reply, reply_list
from dstack.server.services.runs import ending, explaining, planning, reading, submitting, watching
from dstack.server.services.runs.reading import RunKey
from dstack.server.services.wire.runs import run as render

router = APIRouter(tags=["runs"])
_finished = FinishedRuns()  # what it holds is a function of its keys, whichever server of this process asks
PROJECT = "/api/project/{project_name}/runs"


@router.post("/api/runs/list")
async def list_runs(parts: PartsOf, caller: Caller, body: ListRuns) -> Response:
    views = await reading.list_views(parts, caller, body)
    return reply_list(_finished.encode(view, body.include_jobs, body.job_submissions_limit) for view in views)


@router.post(PROJECT + "/get")
async def get(parts: PartsOf, access: Member, body: GetRun) -> Response:
    key = RunKey(body.run_name, body.id and str(body.id))
    return reply(render(await reading.get_view(parts, access, key)))


@router.post(PROJECT + "/get_plan")
async def get_plan(parts: PartsOf, access: Member, body: GetRunPlan) -> Response:
    return reply(await planning.get_plan(parts, access, body))


@router.post(PROJECT + "/apply")
async def apply(parts: PartsOf, access: Member, body: ApplyRunPlan) -> Response:
    return reply(await submitting.apply_plan(parts, access, body))


@router.post(PROJECT + "/stop")
async def stop(parts: PartsOf, access: Member, body: StopRuns) -> Response:
    await ending.stop(parts, access, body.runs_names, body.abort)
    return nothing()


@router.post(PROJECT + "/delete")
async def delete(parts: PartsOf, access: Member, body: DeleteRuns) -> Response:
    await ending.delete(parts, access, body.runs_names)
    return nothing()


@router.post(PROJECT + "/watch")
async def watch(parts: PartsOf, access: Member, body: WatchRun) -> Response:
    return reply(await watching.watch(parts, access, body))


@router.post(PROJECT + "/why")
async def why(parts: PartsOf, access: Member, body: RunName) -> Response:
    return reply(await explaining.why(parts, access, body.run_name))
