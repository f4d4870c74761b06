"""Tasks that run on a host and that no job of this database answers for, as after an old backup was restored.

They are somebody's work: their machine takes no new jobs, and is not ended because we have nothing to do there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import bindparam, select

from dstack.agentapi.client import AgentClient, AgentRefused, AgentUnreachable
from dstack.agentapi.wire import ENDED, TaskReport
from dstack.backends.base import Backend, HostsAgent
from dstack.backends.errors import BackendError
from dstack.control import wording
from dstack.model.instance import Instance
from dstack.server.effects.acts import Again
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES

LOOK_DEADLINE_S = 30.0
# A host that answered lately, and does not now, is asked for so long before its machine is ended all the same.
LOOKED_FOR_S = 60.0
LOOK_AGAIN_S = 60.0
_JOB = TABLES["job"].c
_KNOWN = select(_JOB.id).where(_JOB.id.in_(bindparam("ids", expanding=True)))


def live(reports: Sequence[TaskReport]) -> set[str]:
    """The ids of those that have not ended."""
    return {report.id for report in reports if report.state not in ENDED}


async def unknown(database: Database, ids: set[str]) -> set[str]:
    """Those of the ids that are of no job, whatever became of it."""
    if not ids:
        return set()
    async with database.read_aside() as connection:
        return ids - set((await connection.execute(_KNOWN, {"ids": sorted(ids)})).scalars())


async def put_off(database: Database, backend: Backend, instance: Instance, waited_s: float) -> Again | None:
    """Not None while the machine is not to be ended though we have nothing to do there and nobody asked for its end.

    Whoever decided so knew the rows alone, and no link may have told yet what runs there.
    """
    if not instance.unneeded or instance.data is None or not isinstance(backend, HostsAgent):
        return None
    try:
        async with asyncio.timeout(LOOK_DEADLINE_S):
            client = AgentClient(await backend.agent_connect(instance.token, instance.data))
            try:
                found = await unknown(database, live(await client.tasks()))
            finally:
                await client.aclose()
    except (AgentUnreachable, AgentRefused, BackendError, TimeoutError, OSError):
        # Once its end has begun its link is lost, too.
        wait = instance.linked and waited_s < LOOKED_FOR_S
        return Again("the host does not answer what runs there") if wait else None
    return Again(f"it {wording.unknown_tasks(len(found))}", after_s=LOOK_AGAIN_S) if found else None
