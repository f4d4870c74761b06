"""Nouns of the public API of which a project of this release has none: lists are empty, a name is not found."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from dstack.errors import DstackError, ResourceNotFound
from dstack.model.configurations.reading import parse
from dstack.model.configurations.support import executed
from dstack.model.wire.requests import (
    ApplyGatewayPlan,
    Body,
    ChatCompletions,
    CreateVolume,
    GetGatewayPlan,
    Name,
    Names,
    Upstream,
)
from dstack.server.routes.access import Caller, GlobalAdmin, Member, ProjectAdmin
from dstack.server.routes.reply import nothing, reply
from dstack.server.services.specs import our_names

router = APIRouter(tags=["later"])
PROJECT = "/api/project/{project_name}"
NO_EXPORTS = "This dstack server does not support exports"


@router.post("/api/volumes/list")
async def list_volumes(_: Caller, __: Body | None = None) -> Response:
    return reply([])


@router.post(PROJECT + "/volumes/list")
async def list_project_volumes(_: Member) -> Response:
    return reply([])


@router.post(PROJECT + "/volumes/get")
async def get_volume(_: Member, body: Name) -> Response:
    raise ResourceNotFound(f"Volume {body.name} not found")


@router.post(PROJECT + "/volumes/create")
async def create_volume(_: Member, body: CreateVolume) -> Response:
    return _refused(body.configuration)


@router.post(PROJECT + "/volumes/delete")
async def delete_volumes(_: Member, __: Names) -> Response:
    return nothing()


@router.post(PROJECT + "/gateways/list")
async def list_gateways(_: Member, __: Body | None = None) -> Response:
    return reply([])


@router.post(PROJECT + "/gateways/get")
async def get_gateway(_: Member, body: Name) -> Response:
    raise _no_gateway(body.name)


@router.post(PROJECT + "/gateways/get_plan")
async def get_gateway_plan(_: Member, body: GetGatewayPlan) -> Response:
    return _refused(body.spec.configuration)


@router.post(PROJECT + "/gateways/apply")
async def apply_gateway(_: ProjectAdmin, body: ApplyGatewayPlan) -> Response:
    return _refused(body.plan.spec.configuration)


@router.post(PROJECT + "/gateways/create")
async def create_gateway(_: ProjectAdmin, body: CreateVolume) -> Response:
    return _refused(body.configuration)


@router.post(PROJECT + "/gateways/delete")
async def delete_gateways(_: ProjectAdmin, __: Names) -> Response:
    return nothing()


@router.post(PROJECT + "/gateways/set_default")
async def set_default_gateway(_: ProjectAdmin, body: Name) -> Response:
    raise _no_gateway(body.name)


@router.post(PROJECT + "/gateways/set_wildcard_domain")
async def set_wildcard_domain(_: ProjectAdmin, body: Name) -> Response:
    raise _no_gateway(body.name)


@router.post(PROJECT + "/templates/list")
async def list_templates(_: Member) -> Response:
    return reply([])


@router.post(PROJECT + "/exports/create")
@router.post(PROJECT + "/exports/update")
@router.post(PROJECT + "/exports/delete")
@router.post(PROJECT + "/exports/list")
@router.post(PROJECT + "/imports/delete")
@router.post(PROJECT + "/imports/list")
async def exports(_: Member) -> Response:
    raise DstackError(NO_EXPORTS)


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@router.api_route("/proxy/services/{project_name}/{run_name}", methods=METHODS, include_in_schema=False)
@router.api_route("/proxy/services/{project_name}/{run_name}/{path:path}", methods=METHODS, include_in_schema=False)
async def service(project_name: str, run_name: str) -> Response:
    raise HTTPException(404, f"Service {project_name}/{run_name} not found")


@router.get("/proxy/models/{project_name}/models")
async def list_models(_: Member) -> Response:
    return reply({"object": "list", "data": []})


@router.post("/proxy/models/{project_name}/chat/completions")
async def chat_completions(_: Member, body: ChatCompletions) -> Response:
    raise HTTPException(404, f"Model {body.model} not found")


@router.post("/api/sshproxy/get_upstream")
async def get_upstream(_: GlobalAdmin, body: Upstream) -> Response:
    raise ResourceNotFound(f"Upstream {body.id} not found")


def _refused(configuration: object) -> Response:
    """A configuration that is wrong is told what is wrong, a right one that it is not executed yet."""
    executed(parse(our_names(configuration), "configuration"), "configuration: ")
    raise DstackError("configuration: type: expected a volume or a gateway")


def _no_gateway(name: str) -> DstackError:
    return ResourceNotFound(f"Gateway {name} not found")
