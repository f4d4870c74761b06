"""What people wrote, on the wire: configurations, profiles, run and fleet specs, requirements."""

from __future__ import annotations

from typing import Any

from dstack.model.fleet import FleetSpec
from dstack.model.images import Images
from dstack.model.job import JobSpec
from dstack.model.profile import Profile, ProvisioningParams
from dstack.model.requirements import Requirements
from dstack.model.resources import ResourcesSpec
from dstack.model.run import RunSpec
from dstack.server.services.wire.memo import once_each
from dstack.server.services.wire.values import backends, plain
from dstack.values.user import parse_user

DEFAULT_ARCH = "x86"
DEFAULT_VENDOR = "nvidia"


@once_each
def run_spec(spec: RunSpec) -> dict[str, Any]:
    return {
        "run_name": spec.run_name,
        "repo_id": spec.repo_id,
        "repo_data": spec.repo_data,
        "repo_code_hash": spec.repo_code_hash,
        "repo_dir": spec.repo_dir,
        "file_archives": [{"id": a.id, "path": a.path} for a in spec.file_archives],
        "working_dir": spec.working_dir,
        "configuration_path": spec.configuration_path,
        "configuration": params(spec.configuration),
        "profile": None if spec.profile is None else params(spec.profile),
        "ssh_key_pub": spec.ssh_key_pub,
    }


@once_each
def fleet_spec(spec: FleetSpec) -> dict[str, Any]:
    return {
        "configuration": params(spec.configuration),
        "configuration_path": spec.configuration_path,
        "profile": params(spec.profile or Profile()),
        "autocreated": False,
    }


def params(value: ProvisioningParams) -> dict[str, Any]:
    """A configuration or profile. Backends that the API does not know appear as `remote`, truly in `x_backends`."""
    data = plain(value)
    shown = backends(value.backends)
    if shown is not None and shown != list(value.backends or ()):
        data |= {"backends": shown, "x_backends": list(value.backends or ())}
    return data


def requirements(value: Requirements) -> dict[str, Any]:
    return {
        "resources": resources(value.resources),
        "max_price": value.max_price,
        "spot": value.spot,
        "reservation": value.reservation,
        "multinode": value.multinode or None,
        "backend_options": None,
    }


def resources(value: ResourcesSpec) -> dict[str, Any]:
    """Requirements on a machine with the defaults that clients print: x86 and nvidia where nothing else was written."""
    data = plain(value)
    data["cpu"]["arch"] = data["cpu"]["arch"] or DEFAULT_ARCH
    if data["gpu"]:
        data["gpu"]["vendor"] = data["gpu"]["vendor"] or DEFAULT_VENDOR
    return data


@once_each
def job_spec(spec: JobSpec, images: Images) -> dict[str, Any]:
    """Credentials of registries stay out: they are in the configuration of whoever wrote them."""
    return {
        "replica_num": spec.replica_num,
        "job_num": spec.job_num,
        "job_name": spec.name,
        "jobs_per_replica": spec.jobs_per_replica,
        "app_specs": [
            {"port": port["container_port"], "map_to_port": port.get("local_port"), "app_name": f"app_{n}"}
            for n, port in enumerate(spec.ports)
        ],
        "user": _unix_user(spec.user),
        "commands": list(spec.commands),
        "env": dict(spec.env),
        "home_dir": spec.home_dir,
        "image_name": images.of(spec),
        "privileged": spec.privileged,
        "max_duration": _whole(spec.max_duration_s),
        "stop_duration": _whole(spec.stop_duration_s),
        "registry_auth": None,
        "requirements": requirements(spec.requirements),
        "retry": None
        if spec.retry is None
        else {"on_events": [str(e) for e in spec.retry.on_events], "duration": int(spec.retry.duration_s)},
        "volumes": [],
        "ssh_key": None,
        "working_dir": spec.working_dir,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _unix_user(user: str | None) -> dict[str, Any] | None:
    if user is None:
        return None
    parsed = parse_user(user)
    return {
        "uid": parsed.uid,
        "gid": parsed.gid,
        "username": parsed.username,
        "groupname": parsed.groupname,
    }
