"""Secrets, for those who manage the project."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import DeleteSecrets, Name, SaveSecret
from dstack.server.routes.access import PartsOf, SecretsManager
from dstack.server.routes.reply import nothing, reply
from dstack.server.services import secrets

router = APIRouter(prefix="/api/project/{project_name}/secrets", tags=["secrets"])


@router.post("/list")
async def list_secrets(parts: PartsOf, access: SecretsManager) -> Response:
    return reply(await secrets.list_secrets(parts, access))


@router.post("/get")
async def get(parts: PartsOf, access: SecretsManager, body: Name) -> Response:
    return reply(await secrets.get(parts, access, body.name))


@router.post("/create_or_update")
async def create_or_update(parts: PartsOf, access: SecretsManager, body: SaveSecret) -> Response:
    return reply(await secrets.save(parts, access, body))


@router.post("/delete")
async def delete(parts: PartsOf, access: SecretsManager, body: DeleteSecrets) -> Response:
    await secrets.delete_secrets(parts, access, body.secrets_names)
    return nothing()
