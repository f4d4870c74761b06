"""Fleets and instances on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.control.instance.remarks import remark, waits_to_be_mended
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.server.services.wire import offers, specs
from dstack.server.services.wire.encoding import Encoded, encoded_object
from dstack.server.services.wire.values import backend, instant, plain, stamp


def fleet(row: Fleet, instances: Encoded, project_name: str) -> Encoded:
    """`instances`: the list of them, encoded, as there may be thousands."""
    fields = {
        "id": row.id,
        "name": row.name,
        "project_name": project_name,
        "spec": specs.fleet_spec(row.spec),
        "created_at": stamp(row.created_at),
        "status": str(row.status),
        "status_message": row.last_error,
        "instances": instances,
    }
    return encoded_object(fields)


def instance(row: Instance, project_name: str, jobs: Sequence[Job]) -> dict[str, Any]:
    """`jobs`: those that run there."""
    hostname = (row.data and row.data.hostname) or (row.host and row.host.hostname) or None
    return {
        "id": row.id,
        "project_name": project_name,
        "backend": backend(row.offer.backend),
        "instance_type": offers.instance_type(row.offer) if row.offer.resources.cpus else None,
        "name": row.name,
        "fleet_id": row.fleet_id,
        "fleet_name": row.fleet_name,
        "instance_num": row.num,
        "job_name": ", ".join(job.spec.name for job in jobs) or None,
        "hostname": hostname,
        "status": str(row.status),
        "unreachable": row.unreachable_since is not None,
        "health_status": row.host.health if row.host else "healthy",
        "termination_reason": row.termination_reason and str(row.termination_reason),
        "termination_reason_message": row.termination_message,
        "created": stamp(row.created_at),
        "finished_at": instant(row.finished_at),
        "region": row.offer.region,
        "availability_zone": None,
        "price": row.offer.price,
        "total_blocks": row.total_blocks,
        "busy_blocks": row.busy_blocks,
        "gpu_driver": (row.host and row.host.gpu_driver) or None,
        "x_backend": row.offer.backend,
        "x_runtime": row.offer.runtime,
        "x_host": row.remote and row.remote.key,
        "x_internal_ip": row.data and row.data.internal_ip,
        "x_runs": sorted({job.run_name for job in jobs}),
        "x_cordon": row.cordon and str(row.cordon),
        "x_unknown_tasks": row.unknown_tasks,
        "x_message": remark(row),
        "x_to_mend": waits_to_be_mended(row),
        "x_report": _report(row),
    }


def _report(row: Instance) -> list[dict[str, Any]] | None:
    """What the last look at a host of one's own found; None when nobody has looked yet, or it is no such host."""
    return None if row.report is None else [plain(one) for one in row.report.findings]
