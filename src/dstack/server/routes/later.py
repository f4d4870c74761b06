"""Nouns of the public API of which a project of this release has none: lists are empty, a name is not found."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.errors import DstackError, ResourceNotFound
from dstack.model.wire.requests import Body, Name
from dstack.server.routes.access import Caller, Member
from dstack.server.routes.reply import reply

router = APIRouter(tags=["later"])
PROJECT = "/api/project/{project_name}"


@router.post("/api/volumes/list")
async def list_volumes(_: Caller, __: Body | None = None) -> Response:
    return reply([])


@router.post(PROJECT + "/volumes/list")
async def list_project_volumes(_: Member) -> Response:
    return reply([])


@router.post(PROJECT + "/volumes/get")
async def get_volume(_: Member, body: Name) -> Response:
    raise ResourceNotFound(f"Volume {body.name} not found")


@router.post(PROJECT + "/gateways/list")
async def list_gateways(_: Member, __: Body | None = None) -> Response:
    return reply([])


@router.post(PROJECT + "/gateways/get")
async def get_gateway(_: Member, body: Name) -> Response:
    raise ResourceNotFound(f"Gateway {body.name} not found")


@router.post(PROJECT + "/templates/list")
async def list_templates(_: Member) -> Response:
    return reply([])


@router.post(PROJECT + "/exports/list")
async def list_exports(_: Member) -> Response:
    raise DstackError("This dstack server does not support exports")


@router.post(PROJECT + "/imports/list")
async def list_imports(_: Member) -> Response:
    raise DstackError("This dstack server does not support imports")
