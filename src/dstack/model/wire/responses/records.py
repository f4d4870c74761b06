"""Logs, metrics, events, secrets, files, repositories, and the server itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from dstack.model.wire.responses.base import Answer, OwnBackend

TargetType = Literal[
    "project", "user", "fleet", "instance", "run", "job", "volume", "gateway", "gateway-replica", "secret", "preset"
]


class ServerInfo(Answer):
    server_version: str
    """The version of the public API that is spoken here."""
    x_version: str


class Health(Answer):
    status: Literal["running"]
    x_slow: str | None = None
    """What a database that is slow is waited for. Absent while it is not."""


class Orphan(Answer):
    """A machine under our tag that no living instance answers for."""

    token: str
    """By which its backend knows it."""
    status: Literal["quarantined", "terminating"]
    origin: Literal["unknown", "ended", "abandoned"]
    backend: OwnBackend
    backend_id: str
    project_name: str | None
    instance_name: str | None
    first_seen: datetime
    machine_created_at: datetime | None
    last_error: str | None
    """Of the last try to terminate it."""


class OAuthProviderInfo(Answer):
    name: str
    enabled: bool


class OAuthGetNextRedirectResponse(Answer):
    redirect_url: str | None


class LogEvent(Answer):
    timestamp: datetime
    log_source: Literal["stdout", "stderr"]
    message: str
    """Base64."""


class JobSubmissionLogs(Answer):
    logs: list[LogEvent]
    external_url: str | None
    next_token: str | None
    """For the next page; null: there is none."""


class Metric(Answer):
    name: str
    timestamps: list[datetime]
    """The newest first."""
    values: list[int | float]


class JobMetrics(Answer):
    metrics: list[Metric]


class EventTarget(Answer):
    type: TargetType
    project_id: UUID | None
    project_name: str | None
    is_project_deleted: bool | None
    id: UUID
    name: str


class Event(Answer):
    id: UUID
    message: str
    recorded_at: datetime
    actor_user_id: UUID | None
    actor_user: str | None
    is_actor_user_deleted: bool | None
    targets: list[EventTarget]


class Secret(Answer):
    id: UUID
    name: str
    value: str | None
    """Only where one secret is asked for."""


class FileArchive(Answer):
    id: UUID
    hash: str


class RepoHeadInfo(Answer):
    repo_type: Literal["remote", "local", "virtual"]
    repo_name: str = ""
    repo_dir: str = ""


class RepoHead(Answer):
    repo_id: str
    repo_info: RepoHeadInfo


class OwnRepoCreds(Answer):
    clone_url: str
    private_key: str | None
    oauth_token: str | None


class RepoHeadWithCreds(RepoHead):
    repo_creds: OwnRepoCreds | None
    """The caller's own."""


class Models(Answer):
    """As OpenAI's API lists them."""

    object: Literal["list"]
    data: list[dict[str, Any]]


class Refusal(Answer):
    """Why a call was refused; `hint` says what to do, where there is something."""

    detail: str | dict[str, Any] | list[dict[str, Any]]
    hint: str = ""
