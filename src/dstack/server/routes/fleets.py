"""Fleets: plan, apply, read, delete, explain."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.errors import AccessDenied
from dstack.model.instance import Cordon
from dstack.model.wire.requests import (
    ApplyFleetPlan,
    CordonInstances,
    DeleteFleetInstances,
    DeleteFleets,
    GetFleet,
    GetFleetPlan,
    ListFleets,
    ListProjectFleets,
    Name,
)
from dstack.server.auth.identity import Access
from dstack.server.routes.access import DENIED, Caller, Member, PartsOf
from dstack.server.routes.reply import nothing, reply, reply_encoded
from dstack.server.services.fleets import applying, cordoning, ending, explaining, reading
from dstack.server.services.wire.encoding import encoded_list

router = APIRouter(tags=["fleets"])
PROJECT = "/api/project/{project_name}/fleets"


@router.post("/api/fleets/list")
async def list_fleets(parts: PartsOf, caller: Caller, body: ListFleets) -> Response:
    return reply_encoded(encoded_list(await reading.list_fleets(parts, caller, body)))


@router.post(PROJECT + "/list")
async def list_project_fleets(parts: PartsOf, access: Member, _: ListProjectFleets | None = None) -> Response:
    return reply_encoded(encoded_list(await reading.list_of_project(parts, access)))


@router.post(PROJECT + "/get")
async def get(parts: PartsOf, access: Member, body: GetFleet) -> Response:
    return reply_encoded(await reading.get_fleet(parts, access, body.name, body.id and str(body.id)))


@router.post(PROJECT + "/get_plan")
async def get_plan(parts: PartsOf, access: Member, body: GetFleetPlan) -> Response:
    return reply_encoded(await applying.get_plan(parts, access, body))


@router.post(PROJECT + "/apply")
async def apply(parts: PartsOf, access: Member, body: ApplyFleetPlan) -> Response:
    return reply_encoded(await applying.apply_plan(parts, access, body))


@router.post(PROJECT + "/delete")
async def delete(parts: PartsOf, access: Member, body: DeleteFleets) -> Response:
    _check_abandon(access, body.x_abandon)
    await ending.delete(parts, access, body.names, abandon=body.x_abandon)
    return nothing()


@router.post(PROJECT + "/delete_instances")
async def delete_instances(parts: PartsOf, access: Member, body: DeleteFleetInstances) -> Response:
    _check_abandon(access, body.x_abandon)
    await ending.delete_instances(parts, access, body.name, body.instance_nums, abandon=body.x_abandon)
    return nothing()


@router.post(PROJECT + "/cordon")
async def cordon(parts: PartsOf, access: Member, body: CordonInstances) -> Response:
    wanted = None if body.cordon is None else Cordon(body.cordon)
    return reply_encoded(await cordoning.set_cordon(parts, access, body.name, body.instance_nums, wanted))


@router.post(PROJECT + "/why")
async def why(parts: PartsOf, access: Member, body: Name) -> Response:
    return reply(await explaining.why(parts, access, body.name))


def _check_abandon(access: Access, abandon: bool) -> None:
    if abandon and not access.administers:
        raise AccessDenied(DENIED, hint="an admin of the project abandons what does not answer")
