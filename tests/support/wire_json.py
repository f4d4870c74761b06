"""Objects of the HTTP API as a server sends them, with only what a test is about to be said."""

from __future__ import annotations

import base64
import uuid
from typing import Any

Json = dict[str, Any]

SUBMITTED_AT = "2026-01-31T12:00:00Z"


def an_id(number: int = 1) -> str:
    return str(uuid.UUID(int=number, version=4))


def offer(price: float = 0.0, *, backend: str = "local", spot: bool = False, gpus: int = 0, **more: Any) -> Json:
    resources = {
        "cpus": 2,
        "memory_mib": 8192,
        "gpus": [{"name": "L4", "memory_mib": 24576, "vendor": "nvidia"}] * gpus,
        "spot": spot,
        "disk": {"size_mib": 102400},
        "description": "",
    }
    truth = {"x_backend": backend} if backend == "local" else {}
    return (
        {
            "backend": "remote" if backend == "local" else backend,
            "instance": {"name": "local", "resources": resources},
            "region": "local",
            "price": price,
            "availability": "available",
            "blocks": 1,
            "total_blocks": 1,
        }
        | truth
        | more
    )


def spec(name: str | None = "t1", **configuration: Any) -> Json:
    body = {"type": "task", "name": name, "commands": ["echo hi"]} | configuration
    return {"run_name": name, "configuration": body, "file_archives": [], "repo_id": "none", "profile": None}


def requirements() -> Json:
    resources = {
        "cpu": {"arch": "x86", "count": {"min": 2, "max": None}},
        "memory": {"min": 8.0, "max": None},
        "gpu": {"vendor": None, "name": None, "count": {"min": 0, "max": None}},
        "disk": {"size": {"min": 100.0, "max": None}},
    }
    return {"resources": resources, "max_price": None, "spot": False}


def run_plan(
    name: str | None = "t1", offers: list[Json] | None = None, *, current: Json | None = None, **more: Any
) -> Json:
    offers = [offer()] if offers is None else offers
    job = {
        "job_spec": {
            "job_num": 0,
            "job_name": f"{name}-0-0",
            "requirements": requirements(),
            "retry": None,
            "max_duration": None,
        },
        "offers": offers,
        "total_offers": len(offers),
        "max_price": max((item["price"] for item in offers), default=None),
    }
    return {
        "project_name": "main",
        "user": "admin",
        "run_spec": spec(name),
        "effective_run_spec": spec(name),
        "job_plans": [job],
        "action": "create",
        "current_resource": current,
    } | more


def run(
    status: str = "submitted",
    name: str = "t1",
    *,
    exit_status: int | None = None,
    message: str = "",
    placed: bool = True,
    **more: Any,
) -> Json:
    words = message or {"done": "exited (0)", "failed": f"exited ({exit_status})"}.get(status, status)
    placed = placed and status not in ("submitted", "pending")
    submission = {
        "id": an_id(7),
        "submission_num": 0,
        "submitted_at": SUBMITTED_AT,
        "last_processed_at": SUBMITTED_AT,
        "status": status if status != "pending" else "submitted",
        "status_message": words,
        "exit_status": exit_status,
        "job_provisioning_data": _provisioning() if placed else None,
    }
    job = {"job_spec": {"job_num": 0, "replica_num": 0, "job_name": f"{name}-0-0"}, "job_submissions": [submission]}
    return {
        "id": an_id(3),
        "project_name": "main",
        "user": "admin",
        "submitted_at": SUBMITTED_AT,
        "last_processed_at": SUBMITTED_AT,
        "status": status,
        "status_message": words,
        "run_spec": spec(name),
        "jobs": [job],
        "cost": 0.0,
        "x_exit_status": exit_status,
    } | more


def _provisioning() -> Json:
    return {
        "backend": "remote",
        "x_backend": "local",
        "instance_type": offer()["instance"],
        "instance_id": "i",
        "region": "local",
        "price": 0.0,
        "username": "root",
        "dockerized": False,
    }


def fleet(name: str = "f1", *statuses: str, **more: Any) -> Json:
    instances = [
        {
            "id": an_id(20 + number),
            "name": f"{name}-{number}",
            "instance_num": number,
            "project_name": "main",
            "status": status,
            "created": SUBMITTED_AT,
            "backend": "remote",
            "x_backend": "local",
            "region": "local",
            "price": 0.0,
            "instance_type": offer()["instance"],
            "total_blocks": 1,
            "busy_blocks": 0,
        }
        for number, status in enumerate(statuses)
    ]
    return {
        "id": an_id(5),
        "name": name,
        "project_name": "main",
        "status": "active",
        "created_at": SUBMITTED_AT,
        "spec": fleet_spec(name),
        "instances": instances,
    } | more


def fleet_spec(name: str = "f1", **configuration: Any) -> Json:
    nodes = {"min": 0, "target": 0, "max": 2}
    return {
        "configuration": {"type": "fleet", "name": name, "nodes": nodes} | configuration,
        "profile": {"name": "default"},
    }


def fleet_plan(name: str = "f1", offers: list[Json] | None = None, **more: Any) -> Json:
    offers = [offer()] if offers is None else offers
    return {
        "project_name": "main",
        "user": "admin",
        "spec": fleet_spec(name),
        "effective_spec": fleet_spec(name),
        "offers": offers,
        "total_offers": len(offers),
        "max_offer_price": None,
        "current_resource": None,
        "action": "create",
    } | more


def log(offset_before: int, data: bytes, at: float = 1769860800.0) -> Json:
    """A piece of a followed log."""
    return {"offset": offset_before + len(data), "at": at, "data": base64.b64encode(data).decode()}


def log_end(offset: int, lost: int = 0) -> Json:
    return {"end": True, "offset": offset, "lost": lost}
