"""Submissions of jobs on the wire: status words, reasons, where they run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from dstack.model.images import Images
from dstack.model.job import Job, JobPlace, JobStatus, JobTerminationReason
from dstack.server.services.wire import entry, offers, specs
from dstack.server.services.wire.values import backend, instant, plain, stamp

_ERRORS = {
    JobTerminationReason.INSTANCE_UNREACHABLE: "instance unreachable",
    JobTerminationReason.WAITING_INSTANCE_LIMIT_EXCEEDED: "waiting instance limit exceeded",
    JobTerminationReason.WAITING_RUNNER_LIMIT_EXCEEDED: "waiting runner limit exceeded",
    JobTerminationReason.CREATING_CONTAINER_ERROR: "runner error",
    JobTerminationReason.EXECUTOR_ERROR: "executor error",
    JobTerminationReason.LOG_QUOTA_EXCEEDED: "log quota exceeded",
    JobTerminationReason.MAX_DURATION_EXCEEDED: "max duration exceeded",
    JobTerminationReason.TERMINATED_DUE_TO_UTILIZATION_POLICY: "utilization policy",
    JobTerminationReason.INACTIVITY_DURATION_EXCEEDED: "inactivity duration exceeded",
}
_STATUS_WORDS = {
    JobTerminationReason.FAILED_TO_START_DUE_TO_NO_CAPACITY: "no capacity",
    JobTerminationReason.INTERRUPTED_BY_NO_CAPACITY: "interrupted",
    JobTerminationReason.TERMINATED_BY_USER: "stopped",
    JobTerminationReason.ABORTED_BY_USER: "aborted",
}


@dataclass(frozen=True)
class Silence:
    """Of a host that does not answer: since when, and what is known of it, if anything is."""

    since: float
    message: str | None


@dataclass(frozen=True)
class Around:
    """What rendering jobs needs besides them: default images, pull progress (JSON text) by job id, the time."""

    images: Images
    pulls: dict[str, str] = field(default_factory=dict)
    host_keys: dict[str, str] = field(default_factory=dict)  # of hosts that jobs run on, by instance id
    silent: dict[str, Silence] = field(default_factory=dict)  # hosts that do not answer now, by instance id
    now: float = 0.0


def job(
    submissions: list[Job], around: Around, limit: int | None = None, newest_of_run: tuple[Job, dict] | None = None
) -> dict[str, Any]:
    """One job of a run with its submissions, oldest first; `limit` keeps so many of the newest.

    `newest_of_run`: a submission that is rendered already.
    """
    newest = submissions[-1]
    shown = submissions if limit is None else submissions[max(0, len(submissions) - limit) :]
    return {
        "job_spec": specs.job_spec(newest.spec, around.images),
        "job_submissions": [
            newest_of_run[1] if newest_of_run and one is newest_of_run[0] else submission(one, around) for one in shown
        ],
        "job_connection_info": None,
    }


def submission(value: Job, around: Around) -> dict[str, Any]:
    silence = silence_of(value, around)
    return {
        "id": value.id,
        "submission_num": value.submission_num,
        "deployment_num": 0,
        "submitted_at": stamp(value.submitted_at),
        "last_processed_at": stamp(value.last_processed_at),
        "finished_at": instant(value.finished_at),
        "inactivity_secs": inactivity(value, around.now),
        "status": str(value.status),
        "status_message": status_message(value),
        "termination_reason": value.termination_reason and str(value.termination_reason),
        "termination_reason_message": value.termination_message,
        "exit_status": value.exit_status,
        "job_provisioning_data": provisioning_data(value),
        "job_runtime_data": runtime_data(value),
        "error": error(value),
        "probes": [],
        "image_pull_progress": pull_progress(around.pulls.get(value.id)),
        "x_placement": plain(value.placement),
        "x_attach": entry.attach(value, around.host_keys),
        "x_unreachable_since": instant(silence.since) if silence else None,
    }


def silence_of(value: Job, around: Around) -> Silence | None:
    """Of the host on which the job is, while it is there."""
    return around.silent.get(value.place.instance_id) if value.place and not value.terminal else None


def inactivity(value: Job, now: float) -> int | None:
    """For how many seconds nobody has been in; None while somebody is, and where that ends nothing."""
    since = value.session.inactive_since if value.session else None
    if since is None or value.status is not JobStatus.RUNNING or value.spec.inactivity_duration_s is None:
        return None
    return max(0, int(now - since))


def status_message(value: Job) -> str:
    """The status as people read it: `exited (1)`, `no capacity`, `stopped`, ..."""
    match value.status:
        case JobStatus.DONE:
            return "exited (0)"
        case JobStatus.FAILED if value.exit_status is not None and _exited(value):
            return f"exited ({value.exit_status})"
        case JobStatus.FAILED | JobStatus.TERMINATED | JobStatus.ABORTED:
            other = "error" if value.status is JobStatus.FAILED else str(value.status)
            reason = value.termination_reason
            return _STATUS_WORDS.get(reason, other) if reason else other
        case _:
            return str(value.status)


def error(value: Job) -> str | None:
    return _ERRORS.get(value.termination_reason) if value.termination_reason else None


def provisioning_data(value: Job) -> dict[str, Any] | None:
    place = value.place
    if place is None:
        return None
    return {
        "backend": backend(place.offer.backend),
        "instance_type": offers.instance_type(place.offer),
        "instance_id": place.instance_id,
        "region": place.offer.region,
        "price": block_price(place),
        **entry.provisioned(value),
        "x_backend": place.offer.backend,
        "x_runtime": place.offer.runtime,
        "x_fleet": place.fleet_name,
        "x_instance": place.instance_name,
    }


def runtime_data(value: Job) -> dict[str, Any] | None:
    place = value.place
    if place is None:
        return None
    return {
        "network_mode": "bridge" if place.offer.runtime == "docker" and not value.is_gang else "host",
        "gpu": len(place.offer.resources.gpus) * place.blocks // max(place.total_blocks, 1),
        "ports": {port: host for port, host in value.port_mapping.items() if port.isdigit()} or None,
        "volume_names": None,
        "offer": offers.offer(place.offer, blocks=place.blocks, total_blocks=place.total_blocks),
        "working_dir": value.working_dir,
        "username": value.username,
    }


def pull_progress(text: str | None) -> dict[str, Any] | None:
    """From the stored JSON of `agentapi.wire.PullProgress`."""
    if text is None:
        return None
    progress = json.loads(text)
    return {
        "downloaded_bytes": progress.get("downloaded_bytes", 0),
        "extracted_bytes": progress.get("extracted_bytes", 0),
        "total_bytes": progress.get("total_bytes", 0),
        "is_total_bytes_final": progress.get("total_final", False),
    }


def cost(value: Job, now: float) -> float:
    """Dollars so far: the share of the machine from the start of the work to its end."""
    if value.place is None or value.running_since is None:
        return 0.0
    until = value.finished_at if value.finished_at is not None else now
    return block_price(value.place) * max(0.0, until - value.running_since) / 3600


def block_price(place: JobPlace) -> float:
    """$ per hour of the blocks that the job holds."""
    return place.offer.price * place.blocks / max(place.total_blocks, 1)


def _exited(value: Job) -> bool:
    return value.termination_reason is JobTerminationReason.CONTAINER_EXITED_WITH_ERROR
