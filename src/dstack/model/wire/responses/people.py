"""Users, projects, members, backends."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import ConfigDict

from dstack.model.wire.responses.base import Answer, Backend


class UserPermissions(Answer):
    can_create_projects: bool


class User(Answer):
    id: UUID
    username: str
    created_at: datetime
    global_role: Literal["admin", "user"]
    email: str | None
    active: bool
    permissions: UserPermissions
    ssh_public_key: str | None
    x_projects_quota: int | None
    """How many projects they may own; null: any number."""


class NewUser(User):
    x_token: str
    """Shown this once."""


class UserTokenCreds(Answer):
    token: str
    """Empty unless it is the caller's own, or has just been made."""


class UserWithCreds(User):
    creds: UserTokenCreds
    ssh_private_key: str | None
    """Only for whom it belongs to."""


class UsersInfoList(Answer):
    users: list[User]
    total_count: int


class PublicKeyInfo(Answer):
    id: UUID
    added_at: datetime
    name: str
    type: str
    fingerprint: str


class BackendConfig(Answer):
    """A backend's own settings stand beside its type; with credentials only for admins of the project."""

    model_config = ConfigDict(extra="allow")

    type: Backend


class OwnBackendConfig(Answer):
    """A backend that the public API does not know: empty, but for `x_config`."""

    type: Literal["dstack"]
    base_backends: list[str]
    x_config: dict[str, Any]


class BackendInfo(Answer):
    name: str
    config: BackendConfig


class BackendInfoYAML(Answer):
    name: str
    config_yaml: str


class MemberPermissions(Answer):
    can_manage_ssh_fleets: bool
    can_manage_secrets: bool


class Member(Answer):
    user: User
    project_role: Literal["admin", "manager", "user"]
    permissions: MemberPermissions


class Project(Answer):
    project_id: UUID
    project_name: str
    owner: User
    created_at: datetime
    backends: list[BackendInfo]
    """Those that the public API knows."""
    x_backends: list[str]
    """The types of all."""
    members: list[Member]
    is_public: bool
    templates_repo: str | None


class ProjectsInfoList(Answer):
    projects: list[Project]
    total_count: int
