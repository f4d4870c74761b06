"""Instances over all fleets, finished ones too."""

from __future__ import annotations

from typing import Any

from dstack.errors import ResourceNotFound
from dstack.model.instance import Instance
from dstack.model.wire.requests import InstanceHealthChecks, ListInstances
from dstack.server.auth.identity import Access, User
from dstack.server.parts import Parts
from dstack.server.services.fleets.reading import find_fleet, instance_t, jobs_on
from dstack.server.services.projects import visible_projects
from dstack.server.services.rows import after, fetch, live, paged
from dstack.server.services.wire import fleets as wire
from dstack.server.services.wire.values import stamp


async def list_instances(parts: Parts, caller: User, query: ListInstances) -> list[dict[str, Any]]:
    """A page of the instances that the caller may see, the newest first unless `ascending`."""
    async with parts.database.read() as connection:
        projects = await visible_projects(connection, caller)
        if query.project_names is not None:
            projects = {id_: name for id_, name in projects.items() if name in query.project_names}
        conditions: list[Any] = [instance_t.c.project_id.in_(sorted(projects))]
        if query.fleet_ids is not None:
            conditions.append(instance_t.c.fleet_id.in_([str(id_) for id_ in query.fleet_ids]))
        if query.only_active:
            conditions.append(live(Instance))
        columns = (instance_t.c.created_at, instance_t.c.id)
        conditions += after(*columns, query.prev_created_at, query.prev_id, query.ascending)
        order = paged(*columns, query.ascending)
        found = await fetch(connection, Instance, *conditions, order=order, limit=query.limit)
        jobs = await jobs_on(connection, found, parts.database.kept)
    return [wire.instance(one, projects[one.project_id], jobs.get(one.id, ())) for one in found]


async def get_instance(parts: Parts, access: Access, id_: str) -> dict[str, Any]:
    """Raises ResourceNotFound."""
    async with parts.database.read() as connection:
        of_project = instance_t.c.project_id == access.project.id
        found = await fetch(connection, Instance, of_project, instance_t.c.id == id_)
        if not found:
            raise ResourceNotFound("Instance not found")
        jobs = await jobs_on(connection, found, parts.database.kept)
    return wire.instance(found[0], access.project.name, jobs.get(id_, ()))


async def health_checks(parts: Parts, access: Access, request: InstanceHealthChecks) -> dict[str, Any]:
    """The newest check; empty where there are no accelerators to be checked."""
    async with parts.database.read() as connection:
        fleet = await find_fleet(connection, access.project.id, request.fleet_name)
        numbered = (instance_t.c.fleet_id == (fleet and fleet.id), instance_t.c.num == request.instance_num)
        found = [] if fleet is None else await fetch(connection, Instance, *numbered)
    if not found:
        raise ResourceNotFound("Instance not found")
    host = found[-1].host
    if host is None or not host.gpus or host.health_at is None:
        return {"health_checks": []}
    at = stamp(host.health_at)
    events = [{"timestamp": at, "status": host.health, "message": m} for m in host.health_message.split("; ") if m]
    return {"health_checks": [{"collected_at": at, "status": host.health, "events": events}]}
