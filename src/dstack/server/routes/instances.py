"""Instances over all fleets."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import GetInstance, InstanceHealthChecks, ListInstances
from dstack.server.routes.access import Caller, Member, PartsOf
from dstack.server.routes.reply import reply
from dstack.server.services import instances

router = APIRouter(tags=["instances"])
PROJECT = "/api/project/{project_name}/instances"


@router.post("/api/instances/list")
async def list_instances(parts: PartsOf, caller: Caller, body: ListInstances) -> Response:
    return reply(await instances.list_instances(parts, caller, body))


@router.post(PROJECT + "/get")
async def get(parts: PartsOf, access: Member, body: GetInstance) -> Response:
    return reply(await instances.get_instance(parts, access, str(body.id)))


@router.post(PROJECT + "/get_instance_health_checks")
async def get_instance_health_checks(parts: PartsOf, access: Member, body: InstanceHealthChecks) -> Response:
    return reply(await instances.health_checks(parts, access, body))
