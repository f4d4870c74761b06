"""Users, projects and members on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dstack.server.auth.identity import Access, Project, User
from dstack.server.auth.rules import creates_projects, manages_secrets, manages_ssh_fleets, quota
from dstack.server.services.wire import backends
from dstack.server.services.wire.values import stamp
from dstack.server.settings import Rules


@dataclass(frozen=True)
class Membership:
    user: User
    role: str


def user(value: User, rules: Rules) -> dict[str, Any]:
    return {
        "id": value.id,
        "username": value.username,
        "created_at": stamp(value.created_at),
        "global_role": value.global_role,
        "email": value.email,
        "active": value.active,
        "permissions": {"can_create_projects": creates_projects(rules, value)},
        "ssh_public_key": value.ssh_public_key,
        "x_projects_quota": quota(rules, value),
    }


def user_with_creds(value: User, rules: Rules, token: str, private_key: str | None) -> dict[str, Any]:
    """`token` is empty unless it is shown to whom it belongs, or to who just made it."""
    return user(value, rules) | {"creds": {"token": token}, "ssh_private_key": private_key}


def project(
    value: Project,
    rules: Rules,
    owner: User,
    members: Sequence[Membership],
    configs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """`configs` are those of its backends; what only we have appears in `x_backends` alone."""
    return {
        "project_id": value.id,
        "project_name": value.name,
        "owner": user(owner, rules),
        "created_at": stamp(value.created_at),
        "backends": backends.infos(configs),
        "x_backends": sorted(one["type"] for one in configs),
        "members": [_member(one, value, rules) for one in members],
        "is_public": value.is_public,
        "templates_repo": value.templates_repo,
    }


def _member(value: Membership, of: Project, rules: Rules) -> dict[str, Any]:
    access = Access(value.user, of, value.role)
    return {
        "user": user(value.user, rules),
        "project_role": value.role,
        "permissions": {
            "can_manage_ssh_fleets": manages_ssh_fleets(rules, access),
            "can_manage_secrets": manages_secrets(rules, access),
        },
    }
