"""Metrics of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from dstack.server.routes.access import Member, PartsOf
from dstack.server.routes.reply import reply
from dstack.server.services import metrics
from dstack.server.services.runs.reading import RunKey
from dstack.server.services.wire.values import seconds

router = APIRouter(prefix="/api/project/{project_name}/metrics", tags=["metrics"])


@router.get("/job/{run_name}")
async def job(
    parts: PartsOf,
    access: Member,
    run_name: str,
    run_id: UUID | None = None,
    replica_num: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    job_num: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1,
    after: datetime | None = None,
    before: datetime | None = None,
) -> Response:
    key, between = RunKey(run_name, run_id and str(run_id)), (seconds(after), seconds(before))
    found = await metrics.of_job(parts, access, key, replica_num, job_num, limit, *between)
    return reply(found)
