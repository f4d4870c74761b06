"""Secrets, events, projects, users, uploaded files, repos, and the lists of what is on offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from dstack.api.transport import Progress, Transport
from dstack.errors import ResourceNotFound

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


class Orphans:
    """Machines that no living instance answers for; for admins of the server."""

    def __init__(self, transport: Transport):
        self._transport = transport

    def list(self) -> list[Json]:
        """Those that are not settled, the oldest first."""
        return self._transport.call("/api/server/orphans/list")

    def terminate(self, token: str) -> None:
        """Have the machine ended; raises ResourceNotFound."""
        self._transport.call("/api/server/orphans/terminate", {"token": token}, idempotent=False)

    def settle(self, token: str) -> None:
        """Take it off the list; raises ResourceNotFound."""
        self._transport.call("/api/server/orphans/settle", {"token": token}, idempotent=False)


class Users:
    def __init__(self, transport: Transport):
        self._transport = transport

    def me(self) -> Json:
        """The user to whom the token belongs."""
        return self._transport.call("/api/users/get_my_user")

    def get(self, name: str) -> Json:
        """One user; for administrators."""
        return self._transport.call("/api/users/get_user", {"username": name})


class Files:
    def __init__(self, transport: Transport):
        self._transport = transport

    def find(self, sha256: str) -> str | None:
        """The id of an archive that the caller sent before and the server still has."""
        try:
            return self._transport.call("/api/files/get_archive_by_hash", {"hash": sha256})["id"]
        except ResourceNotFound:
            return None

    def upload(self, data: bytes, sha256: str, progress: Progress | None = None) -> Json:
        """Store a tar archive; returns `{"id", "hash"}`. The same bytes are stored once.

        `progress` hears how many bytes of it are sent.
        """
        return self._transport.upload("/api/files/upload_archive", sha256, data, progress=progress)


class Repos:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._base = f"/api/project/{project}/repos"

    def init_virtual(self, repo_id: str = "none") -> None:
        """Register the repo of runs that have none of their own."""
        body = {"repo_id": repo_id, "repo_info": {"repo_type": "virtual"}, "repo_creds": None}
        self._transport.call(f"{self._base}/init", body)

    def init_remote(self, repo_id: str, name: str, creds: Json) -> None:
        """Register a remote repository, and what the caller's runs fetch it with (the wire's `RemoteRepoCreds`)."""
        info = {"repo_type": "remote", "repo_name": name}
        self._transport.call(f"{self._base}/init", {"repo_id": repo_id, "repo_info": info, "repo_creds": creds})

    def creds(self, repo_id: str) -> Json | None:
        """What the caller registered; None when that is nothing."""
        body = {"repo_id": repo_id, "include_creds": True}
        try:
            return self._transport.call(f"{self._base}/get", body)["repo_creds"]
        except ResourceNotFound:
            return None

    def upload_code(self, repo_id: str, data: bytes, sha256: str) -> None:
        """Store the local changes to a registered repository."""
        self._transport.upload(f"{self._base}/upload_code?repo_id={quote(repo_id, safe='')}", sha256, data)


class Gpus:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._path = f"/api/project/{project}/gpus/list"

    def list(
        self, run_spec: Json, group_by: Sequence[str] = (), *, full_offers: bool = False, unallocated: bool = False
    ) -> list[Json]:
        """Groups of one GPU type each, cheapest first; `group_by` splits them by `backend`, `region`, `count`."""
        body = {
            "run_spec": run_spec,
            "group_by": [*group_by],
            "full_offers": full_offers,
            "unallocated_resources": unallocated,
        }
        return self._transport.call(self._path, body)["gpus"]


class Metrics:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._base = f"/api/project/{project}/metrics/job"

    def of_job(self, run_name: str, *, replica_num: int = 0, job_num: int = 0, limit: int = 1000) -> list[Json]:
        """Series `{"name", "timestamps", "values"}` of the newest attempt, the newest value first."""
        path = f"{self._base}/{quote(run_name, safe='')}?replica_num={replica_num}&job_num={job_num}&limit={limit}"
        return self._transport.call(path, method="GET")["metrics"]


class Volumes:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._base = f"/api/project/{project}/volumes"

    def list(self) -> list[Json]:
        """The volumes of the project."""
        return self._transport.call(f"{self._base}/list")

    def get(self, name: str) -> Json:
        """Raises ResourceNotFound."""
        return self._transport.call(f"{self._base}/get", {"name": name})

    def delete(self, names: Sequence[str]) -> None:
        """Ask for the volumes to be deleted, with what is on them."""
        self._transport.call(f"{self._base}/delete", {"names": [*names]})


class Gateways:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._base = f"/api/project/{project}/gateways"

    def list(self) -> list[Json]:
        """The gateways of the project."""
        return self._transport.call(f"{self._base}/list", {"include_imported": True})

    def get(self, name: str) -> Json:
        """Raises ResourceNotFound."""
        return self._transport.call(f"{self._base}/get", {"name": name})

    def delete(self, names: Sequence[str]) -> None:
        """Ask for the gateways to be deleted."""
        self._transport.call(f"{self._base}/delete", {"names": [*names]})
