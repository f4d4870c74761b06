"""`dstack why FLEET`: where a fleet and its instances stand, and why no offer fits."""

from __future__ import annotations

from typing import Any

from dstack.control.instance.remarks import remark
from dstack.control.scheduling import Matching, fleet_candidates
from dstack.control.wording import duration
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.fleets.reading import absent_fleet, find_fleet, instance_t
from dstack.server.services.rows import fetch, live
from dstack.server.services.runs.explaining import funnel_lines
from dstack.server.services.runs.waiting import instance_deadline, instance_waits_for
from dstack.server.services.wire.values import plain


async def why(parts: Parts, access: Access, name: str) -> dict[str, Any]:
    """Facts of each live instance, and `lines` for people. Raises ResourceNotFound."""
    offers = await parts.offers.all(access.project.id)
    async with parts.database.read() as connection:
        fleet = await find_fleet(connection, access.project.id, name)
        if fleet is None:
            raise absent_fleet(name)
        order = (instance_t.c.num,)
        instances = await fetch(connection, Instance, instance_t.c.fleet_id == fleet.id, live(Instance), order=order)
    now = parts.clock.now()
    matching = fleet_candidates(fleet.spec.configuration, () if fleet.spec.hosts else offers, at=now)
    return {
        "name": fleet.name,
        "status": str(fleet.status),
        "instances": [_instance(one) for one in instances],
        "offers": plain(matching.report),
        "lines": _lines(fleet, instances, matching, now),
    }


def _instance(instance: Instance) -> dict[str, Any]:
    reason = instance.termination_reason or instance.terminate_requested
    return {
        "name": instance.name,
        "status": str(instance.status),
        "reason": reason and str(reason),
        "message": remark(instance) or instance.terminate_message,
        "waiting_for": instance_waits_for(instance),
        "deadline": instance_deadline(instance),
    }


def _lines(fleet: Fleet, instances: list[Instance], matching: Matching, now: float) -> list[str]:
    lines = [f"{fleet.name} is {fleet.status}" + (f": {fleet.last_error}" if fleet.last_error else "")]
    if not instances:
        lines.append("It has no instances.")
    for one in instances:
        waits = instance_waits_for(one)
        deadline = instance_deadline(one)
        until = f", for {duration(max(0.0, deadline - now))} at most" if deadline is not None else ""
        name = f"{one.name} ({one.remote.key})" if one.remote else one.name
        lines.append(f"{name} is {one.status}" + (f", waits for {waits}" if waits else "") + until)
        if one.cordon is not None:
            lines.append(f"  It takes no new jobs: it is {one.cordon}.")
        if said := remark(one):
            lines.append(f"  {said}")
    if fleet.next_create_at is not None and fleet.next_create_at > now:
        lines.append(f"It tries again in {duration(fleet.next_create_at - now)}.")
    return lines if fleet.spec.hosts else lines + funnel_lines(matching.report)
