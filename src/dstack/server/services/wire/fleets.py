"""Fleets and instances on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.server.services.wire import offers, specs
from dstack.server.services.wire.values import backend, instant, stamp


def fleet(row: Fleet, instances: Sequence[Instance], project_name: str, job_names: Mapping[str, str]) -> dict[str, Any]:
    """`job_names`: by instance id, the job that runs there."""
    return {
        "id": row.id,
        "name": row.name,
        "project_name": project_name,
        "spec": specs.fleet_spec(row.spec),
        "created_at": stamp(row.created_at),
        "status": str(row.status),
        "status_message": row.last_error,
        "instances": [instance(one, project_name, job_names.get(one.id)) for one in instances],
    }


def instance(row: Instance, project_name: str, job_name: str | None) -> dict[str, Any]:
    hostname = (row.data and row.data.hostname) or (row.host and row.host.hostname) or None
    return {
        "id": row.id,
        "project_name": project_name,
        "backend": backend(row.offer.backend),
        "instance_type": offers.instance_type(row.offer),
        "name": row.name,
        "fleet_id": row.fleet_id,
        "fleet_name": row.fleet_name,
        "instance_num": row.num,
        "job_name": job_name,
        "hostname": hostname,
        "status": str(row.status),
        "unreachable": row.unreachable_since is not None,
        "health_status": "healthy",
        "termination_reason": row.termination_reason and str(row.termination_reason),
        "termination_reason_message": row.termination_message,
        "created": stamp(row.created_at),
        "finished_at": instant(row.finished_at),
        "region": row.offer.region,
        "availability_zone": None,
        "price": row.offer.price,
        "total_blocks": row.total_blocks,
        "busy_blocks": row.busy_blocks,
        "gpu_driver": None,
        "x_backend": row.offer.backend,
        "x_runtime": row.offer.runtime,
    }
