"""Secrets, events, projects, users, uploaded files and repos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.api.transport import Transport

Json = dict[str, Any]

EVENT_PAGE = 100  # the most that the server lists at once


class Secrets:
    """Values are returned by `get` only."""

    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._base = f"/api/project/{project}/secrets"

    def list(self) -> list[Json]:
        return self._transport.call(f"{self._base}/list")

    def get(self, name: str) -> Json:
        """The secret with its value; raises ResourceNotFound."""
        return self._transport.call(f"{self._base}/get", {"name": name})

    def set(self, name: str, value: str) -> Json:
        """Create the secret or replace its value."""
        return self._transport.call(f"{self._base}/create_or_update", {"name": name, "value": value})

    def delete(self, names: Sequence[str]) -> None:
        """Raises ResourceNotFound when one does not exist."""
        self._transport.call(f"{self._base}/delete", {"secrets_names": [*names]}, idempotent=False)


class Events:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._project = project

    def list(self, *, limit: int = EVENT_PAGE, filters: Json | None = None, after: Json | None = None) -> list[Json]:
        """Events of the project: the newest `limit` first, or oldest first those since the event `after`.

        `filters` are those of the HTTP API's `ListEventsRequest`, for instance `{"target_runs": [id]}`.
        """
        body: Json = {"limit": min(limit, EVENT_PAGE), "ascending": after is not None, **(filters or {})}
        if "within_projects" not in body:
            project = self._transport.call(f"/api/projects/{self._project}/get")
            body["within_projects"] = [project["project_id"]]
        if after:
            body |= {"prev_recorded_at": after["recorded_at"], "prev_id": after["id"]}
        return self._transport.call("/api/events/list", body)


class Projects:
    def __init__(self, transport: Transport):
        self._transport = transport

    def get(self, name: str) -> Json:
        """Raises ResourceNotFound."""
        return self._transport.call(f"/api/projects/{name}/get")

    def list(self) -> list[Json]:
        """The projects that the user may see."""
        return self._transport.call("/api/projects/list", {})

    def create(self, name: str) -> Json:
        """Raises ResourceExists."""
        return self._transport.call("/api/projects/create", {"project_name": name}, idempotent=False)

    def delete(self, names: Sequence[str]) -> None:
        self._transport.call("/api/projects/delete", {"projects_names": [*names]}, idempotent=False)


class Users:
    def __init__(self, transport: Transport):
        self._transport = transport

    def me(self) -> Json:
        """The user to whom the token belongs."""
        return self._transport.call("/api/users/get_my_user")


class Files:
    def __init__(self, transport: Transport):
        self._transport = transport

    def upload(self, data: bytes, sha256: str) -> Json:
        """Store a tar archive; returns `{"id", "hash"}`. The same bytes are stored once."""
        return self._transport.upload("/api/files/upload_archive", sha256, data)


class Repos:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._base = f"/api/project/{project}/repos"

    def init_virtual(self, repo_id: str = "none") -> None:
        """Register the repo of runs that have none of their own."""
        body = {"repo_id": repo_id, "repo_info": {"repo_type": "virtual"}, "repo_creds": None}
        self._transport.call(f"{self._base}/init", body)
