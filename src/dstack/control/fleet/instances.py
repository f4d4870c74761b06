"""Rows of instances that a fleet, or placement on its behalf, wants made."""

from __future__ import annotations

from dstack.ids import derived_id
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.offer import Offer


def new_instance(
    fleet: Fleet, offer: Offer, total_blocks: int, *, idle_duration_s: float | None, now: float, busy_blocks: int = 0
) -> Instance:
    """The next instance of the fleet. The caller raises `next_instance_num` in the same decision."""
    num = fleet.next_instance_num
    return Instance(
        id=derived_id(fleet.id, "instance", num),
        project_id=fleet.project_id,
        created_at=now,
        fleet_id=fleet.id,
        fleet_name=fleet.name,
        name=f"{fleet.name}-{num}",
        num=num,
        offer=offer,
        total_blocks=total_blocks,
        busy_blocks=busy_blocks,
        idle_duration_s=idle_duration_s,
    )
