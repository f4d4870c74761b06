"""Acts and probes on machines: create one, see it gone, ask how it is."""

from __future__ import annotations

import asyncio
import logging

from dstack.backends.base import Created, InstanceOrder, OutOfCapacity, Terminated
from dstack.backends.errors import BackendError, MissingDependency
from dstack.control.kernel import Probe
from dstack.model.instance import Instance
from dstack.model.observation import CreateFailed, Gone, InstanceCreated, NoCapacity, Vanished
from dstack.model.row import Ref
from dstack.server.effects.acts import Again, Done
from dstack.server.services.backends import ProjectBackends
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.rows import project_name, row
from dstack.server.store.store import Store

log = logging.getLogger(__name__)
CREATE_DEADLINE_S = 300.0
TERMINATE_DEADLINE_S = 120.0
DESCRIBE_DEADLINE_S = 60.0
CREATE_TRIES = 6
ALARM_AFTER = 10  # tries of a termination before an operator is told


class InstanceEffects:
    def __init__(self, store: Store, backends: ProjectBackends):
        self._store = store
        self._backends = backends

    async def create(self, act: ClaimedAct) -> Done | Again:
        """Create the machine of the act's token; the same token gives the same machine however often this runs."""
        instance = await self._load(act.ref)
        backend = await self._backends.find(instance.project_id, instance.offer.backend)
        if backend is None:
            return self._seen(act, CreateFailed(message=f"Backend {instance.offer.backend} is not configured"))
        order = InstanceOrder(
            token=act.token,
            offer=instance.offer,
            name=instance.name,
            project=await project_name(self._store.database, instance.project_id),
            fleet=instance.fleet_name,
        )
        try:
            async with asyncio.timeout(CREATE_DEADLINE_S):
                result = await backend.create_instance(order)
        except MissingDependency as e:
            return self._seen(act, CreateFailed(message=e.message))
        except (BackendError, TimeoutError, OSError) as e:
            message = e.message if isinstance(e, BackendError) else f"{type(e).__name__} while creating the instance"
            if act.attempts + 1 >= CREATE_TRIES:
                # Whether a machine exists is unknown; terminating verifies by the token that it does not.
                return self._seen(act, CreateFailed(message=message))
            return Again(message)
        if isinstance(result, Created):
            return self._seen(act, InstanceCreated(data=result.data))
        if isinstance(result, OutOfCapacity):
            return self._seen(act, NoCapacity(message=result.message))
        return self._seen(act, CreateFailed(message=result.message))

    async def terminate(self, act: ClaimedAct) -> Done | Again:
        """Ends only when the backend itself says that the machine is gone; backs off, never gives up."""
        instance = await self._load(act.ref)
        backend = await self._backends.find(instance.project_id, instance.offer.backend)
        if act.attempts and act.attempts % ALARM_AFTER == 0:
            log.error("instance %s is not gone after %d tries: it may still cost money", instance.name, act.attempts)
        if backend is None:
            return Again(f"backend {instance.offer.backend} is not configured", after_s=60.0)
        try:
            async with asyncio.timeout(TERMINATE_DEADLINE_S):
                result = await backend.terminate_instance(instance.token, instance.data)
        except (BackendError, TimeoutError, OSError) as e:
            return Again(e.message if isinstance(e, BackendError) else f"{type(e).__name__} while terminating")
        if isinstance(result, Terminated):
            return self._seen(act, Gone())
        return Again("the backend says: still terminating")

    async def describe(self, probe: Probe) -> None:
        """Ask the backend whether the machine still exists; only an answer changes anything."""
        instance = await self._load(probe.ref)
        backend = await self._backends.find(instance.project_id, instance.offer.backend)
        if backend is None or instance.data is None:
            return
        async with asyncio.timeout(DESCRIBE_DEADLINE_S):
            state = await backend.describe_instance(instance.token, instance.data)
        if state.state == "gone":
            await self._store.observe(
                [(probe.ref, Vanished(message=state.message, preempted=state.preempted))], probe.payload["now"]
            )

    async def _load(self, ref: Ref) -> Instance:
        return await row(self._store.database, Instance, ref.id)

    @staticmethod
    def _seen(act: ClaimedAct, *observations: InstanceCreated | NoCapacity | CreateFailed | Gone) -> Done:
        return Done(tuple((act.ref, o) for o in observations))
