"""Backends of projects, for those who administer them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from dstack.model.wire.backend_requests import BackendYaml, DeleteBackends
from dstack.server.routes.access import PartsOf, ProjectAdmin
from dstack.server.routes.reply import nothing, reply
from dstack.server.services import backend_settings
from dstack.server.services.wire import backends as wire

router = APIRouter(tags=["backends"])
PROJECT = "/api/project/{project_name}/backends"


@router.post("/api/backends/list_types")
async def list_types(parts: PartsOf) -> Response:
    """Backends that a project can configure by itself; `local` belongs to the server, `sim` is ours alone."""
    return reply(wire.types(parts.backends.registry.types()))


@router.post(PROJECT + "/create")
async def create(parts: PartsOf, access: ProjectAdmin, body: dict[str, Any]) -> Response:
    return reply(await backend_settings.create(parts, access, body))


@router.post(PROJECT + "/update")
async def update(parts: PartsOf, access: ProjectAdmin, body: dict[str, Any]) -> Response:
    return reply(await backend_settings.change(parts, access, body))


@router.post(PROJECT + "/delete")
async def delete(parts: PartsOf, access: ProjectAdmin, body: DeleteBackends) -> Response:
    await backend_settings.remove(parts, access, body.backends_names)
    return nothing()


@router.post(PROJECT + "/{backend_name}/config_info")
async def config_info(parts: PartsOf, access: ProjectAdmin, backend_name: str) -> Response:
    return reply(wire.config(await backend_settings.config_of(parts, access, backend_name)))


@router.post(PROJECT + "/create_yaml")
async def create_yaml(parts: PartsOf, access: ProjectAdmin, body: BackendYaml) -> Response:
    await backend_settings.create(parts, access, backend_settings.read_yaml(body.config_yaml))
    return nothing()


@router.post(PROJECT + "/update_yaml")
async def update_yaml(parts: PartsOf, access: ProjectAdmin, body: BackendYaml) -> Response:
    await backend_settings.change(parts, access, backend_settings.read_yaml(body.config_yaml))
    return nothing()


@router.post(PROJECT + "/{backend_name}/get_yaml")
async def get_yaml(parts: PartsOf, access: ProjectAdmin, backend_name: str) -> Response:
    config = await backend_settings.config_of(parts, access, backend_name)
    return reply({"name": backend_name, "config_yaml": backend_settings.to_yaml(config)})
