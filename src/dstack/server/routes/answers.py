"""What each path answers with status 200. Only the document of the API reads this; a test holds the two together."""

from __future__ import annotations

from typing import Any, Final

from dstack.model.wire.responses import fleets, machines, people, records, runs
from dstack.model.wire.responses.base import Backend, Plain

NOTHING: Final = None
_CONFIG = people.BackendConfig | people.OwnBackendConfig
_PROJECT, _PROJECTS = "/api/project/{project_name}", "/api/projects/{project_name}"
_NONE_YET = list[Plain]  # volumes, gateways and templates, of which there are none

PEOPLE: dict[str, Any] = {
    "/api/users/get_my_user": people.UserWithCreds,
    "/api/users/list": list[people.User] | people.UsersInfoList,
    "/api/users/get_user": people.UserWithCreds,
    "/api/users/create": people.NewUser,
    "/api/users/update": people.User,
    "/api/users/refresh_token": people.UserWithCreds,
    "/api/users/refresh_ssh_key": people.UserWithCreds,
    "/api/users/delete": NOTHING,
    "/api/users/public_keys/list": list[people.PublicKeyInfo],
    "/api/users/public_keys/add": people.PublicKeyInfo,
    "/api/users/public_keys/delete": NOTHING,
    "/api/projects/list": list[people.Project] | people.ProjectsInfoList,
    "/api/projects/list_only_no_fleets": list[people.Project],
    "/api/projects/create": people.Project,
    "/api/projects/delete": NOTHING,
    **{
        f"{_PROJECTS}/{act}": people.Project
        for act in ("get", "update", "set_members", "add_members", "remove_members")
    },
}

BACKENDS: dict[str, Any] = {
    "/api/backends/list_types": list[Backend],
    f"{_PROJECT}/backends/create": _CONFIG,
    f"{_PROJECT}/backends/update": _CONFIG,
    f"{_PROJECT}/backends/delete": NOTHING,
    f"{_PROJECT}/backends/{{backend_name}}/config_info": _CONFIG,
    f"{_PROJECT}/backends/create_yaml": NOTHING,
    f"{_PROJECT}/backends/update_yaml": NOTHING,
    f"{_PROJECT}/backends/{{backend_name}}/get_yaml": people.BackendInfoYAML,
    f"{_PROJECT}/gpus/list": machines.ListGpusResponse,
}

WORK: dict[str, Any] = {
    "/api/fleets/list": list[fleets.Fleet],
    f"{_PROJECT}/fleets/list": list[fleets.Fleet],
    f"{_PROJECT}/fleets/get": fleets.Fleet,
    f"{_PROJECT}/fleets/get_plan": fleets.FleetPlan,
    f"{_PROJECT}/fleets/apply": fleets.Fleet,
    f"{_PROJECT}/fleets/delete": NOTHING,
    f"{_PROJECT}/fleets/delete_instances": NOTHING,
    f"{_PROJECT}/fleets/cordon": fleets.Fleet,
    f"{_PROJECT}/fleets/why": fleets.FleetWhy,
    "/api/instances/list": list[fleets.Instance],
    f"{_PROJECT}/instances/get": fleets.Instance,
    f"{_PROJECT}/instances/get_instance_health_checks": fleets.GetInstanceHealthChecksResponse,
    "/api/runs/list": list[runs.Run],
    f"{_PROJECT}/runs/get": runs.Run,
    f"{_PROJECT}/runs/get_plan": runs.RunPlan,
    f"{_PROJECT}/runs/apply": runs.Run,
    f"{_PROJECT}/runs/stop": NOTHING,
    f"{_PROJECT}/runs/delete": NOTHING,
    f"{_PROJECT}/runs/watch": runs.WatchedRun,
    f"{_PROJECT}/runs/why": runs.RunWhy,
}

RECORDS: dict[str, Any] = {
    "/healthcheck": records.Health,
    "/api/server/get_info": records.ServerInfo,
    "/api/server/orphans/list": list[records.Orphan],
    "/api/server/orphans/terminate": NOTHING,
    "/api/server/orphans/settle": NOTHING,
    "/api/auth/list_providers": list[records.OAuthProviderInfo],
    "/api/auth/get_next_redirect": records.OAuthGetNextRedirectResponse,
    "/api/events/list": list[records.Event],
    "/api/files/get_archive_by_hash": records.FileArchive,
    "/api/files/upload_archive": records.FileArchive,
    f"{_PROJECT}/logs/poll": records.JobSubmissionLogs,
    f"{_PROJECT}/metrics/job/{{run_name}}": records.JobMetrics,
    f"{_PROJECT}/secrets/list": list[records.Secret],
    f"{_PROJECT}/secrets/get": records.Secret,
    f"{_PROJECT}/secrets/create_or_update": records.Secret,
    f"{_PROJECT}/secrets/delete": NOTHING,
    f"{_PROJECT}/repos/list": list[records.RepoHead],
    f"{_PROJECT}/repos/get": records.RepoHeadWithCreds,
    **{f"{_PROJECT}/repos/{act}": NOTHING for act in ("init", "delete", "upload_code")},
}

# Of these a project of this release has none: what would make one is always refused.
LATER: dict[str, Any] = {
    "/proxy/models/{project_name}/models": records.Models,
    "/api/volumes/list": _NONE_YET,
    **{f"{_PROJECT}/{noun}/list": _NONE_YET for noun in ("volumes", "gateways", "templates")},
    **{f"{_PROJECT}/{noun}/delete": NOTHING for noun in ("volumes", "gateways")},
}

ANSWERS = PEOPLE | BACKENDS | WORK | RECORDS | LATER
# Always refused, or no JSON: `logs/follow` streams, see its description.
WITHOUT = frozenset(
    {
        "/api/sshproxy/get_upstream",
        "/proxy/models/{project_name}/chat/completions",
        f"{_PROJECT}/logs/follow",
        *(f"{_PROJECT}/volumes/{act}" for act in ("get", "create")),
        *(f"{_PROJECT}/gateways/{act}" for act in ("get", "get_plan", "apply", "create", "set_default")),
        f"{_PROJECT}/gateways/set_wildcard_domain",
        *(f"{_PROJECT}/exports/{act}" for act in ("create", "update", "delete", "list")),
        *(f"{_PROJECT}/imports/{act}" for act in ("delete", "list")),
    }
)
