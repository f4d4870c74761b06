"""Users, projects and members on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dstack.server.auth.identity import Project, User
from dstack.server.services.wire.values import stamp


@dataclass(frozen=True)
class Membership:
    user: User
    role: str


def user(value: User) -> dict[str, Any]:
    return {
        "id": value.id,
        "username": value.username,
        "created_at": stamp(value.created_at),
        "global_role": value.global_role,
        "email": value.email,
        "active": value.active,
        "permissions": {"can_create_projects": True},
        "ssh_public_key": value.ssh_public_key,
    }


def user_with_creds(value: User, token: str, private_key: str | None) -> dict[str, Any]:
    """`token` is empty unless it is shown to whom it belongs, or to who just made it."""
    return user(value) | {"creds": {"token": token}, "ssh_private_key": private_key}


def project(value: Project, owner: User, members: Sequence[Membership]) -> dict[str, Any]:
    """Backends are a list of what can be configured; those that only we have do not appear in it."""
    return {
        "project_id": value.id,
        "project_name": value.name,
        "owner": user(owner),
        "created_at": stamp(value.created_at),
        "backends": [],
        "members": [
            {
                "user": user(one.user),
                "project_role": one.role,
                "permissions": {
                    "can_manage_ssh_fleets": True,
                    "can_manage_secrets": one.role in ("admin", "manager") or one.user.is_admin,
                },
            }
            for one in members
        ],
        "is_public": value.is_public,
        "templates_repo": None,
    }
