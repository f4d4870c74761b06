"""Cordon, uncordon and drain: whether instances take new jobs, as a person wants it."""

from __future__ import annotations

from collections.abc import Sequence

from dstack.control import wording
from dstack.control.run.decide import queue_ref
from dstack.errors import ResourceNotFound
from dstack.model.event import Event
from dstack.model.instance import Cordon, Instance
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.fleets.reading import absent_fleet, find_fleet, get_fleet, instance_t
from dstack.server.services.rows import announce, change_rows, fetch, live
from dstack.server.services.wire.encoding import Encoded
from dstack.server.store.commit import record_events, wake

_SAID = {
    None: "Instance uncordoned: it takes new jobs again",
    Cordon.CORDONED: "Instance cordoned: it takes no new jobs",
    Cordon.DRAINING: "Instance is being drained: it takes no new jobs",
}


async def set_cordon(
    parts: Parts, access: Access, name: str, nums: Sequence[int] | None, cordon: Cordon | None
) -> Encoded:
    """The rendered fleet. `nums` None: all its instances. Raises ResourceNotFound."""
    now = parts.clock.now()
    async with parts.database.write() as connection:
        fleet = await find_fleet(connection, access.project.id, name)
        if fleet is None:
            raise absent_fleet(name)
        found = await fetch(connection, Instance, instance_t.c.fleet_id == fleet.id, live(Instance), lock=True)
        if absent := sorted(set(nums or ()) - {one.num for one in found}):
            raise ResourceNotFound(f"Fleet {name} has no instance {', '.join(map(str, absent))}")
        asked = [one for one in found if (nums is None or one.num in nums) and one.cordon is not cordon]
        await change_rows(connection, Instance, [one.id for one in asked], cordon=cordon)
        events = [Event(_SAID[cordon], (wording.target(one),), access.user.id, access.project.id) for one in asked]
        await record_events(connection, events, now)
        # Jobs that wait may fit now.
        touched = [*(one.ref for one in asked), queue_ref(access.project.id)]
        await wake(connection, touched, now)
    announce(parts, [*touched, fleet.ref])
    return await get_fleet(parts, access, None, fleet.id)
