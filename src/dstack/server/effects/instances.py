"""Acts and probes on machines: create one, see it gone, ask how it is."""

from __future__ import annotations

import asyncio
import logging

from dstack.backends.base import Created, InstanceOrder, OutOfCapacity, Terminated, Unfit
from dstack.backends.errors import BackendError, MissingDependency
from dstack.backends.ssh.backend import SshBackend, host_data
from dstack.clock import Clock
from dstack.control.kernel import Probe
from dstack.errors import DstackError
from dstack.model.instance import Instance, ProvisioningData
from dstack.model.observation import (
    CreateFailed,
    Gone,
    HostTrouble,
    HostUnfit,
    InstanceCreated,
    NoCapacity,
    Vanished,
)
from dstack.model.row import Ref
from dstack.server.effects.acts import Again, Done
from dstack.server.effects.unknown_tasks import put_off
from dstack.server.services.backends import ProjectBackends
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.rows import ordered, row
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable

log = logging.getLogger(__name__)
CREATE_DEADLINE_S = 300.0
TERMINATE_DEADLINE_S = 120.0
DESCRIBE_DEADLINE_S = 60.0
CREATE_TRIES = 6
MEND_PAUSE_S, MAX_MEND_PAUSE_S = 2.0, 30.0  # between looks at a host that a person is mending, or that does not answer
FAREWELL_S = 300.0  # so long a host that does not answer is asked to let itself be left
ABANDON_DEADLINE_S = 10.0
ALARM_AFTER = 10  # tries of a termination before an operator is told


class InstanceEffects:
    def __init__(self, store: Store, backends: ProjectBackends, clock: Clock):
        self._store = store
        self._backends = backends
        self._clock = clock

    async def create(self, act: ClaimedAct) -> Done | Again:
        """Create the machine of the act's token; the same token gives the same machine however often this runs."""
        of = await ordered(self._store.database, act.ref.id)
        instance = of.instance
        if instance.remote is not None and instance.leaving:
            return Done()
        backend = await self._backends.find(instance.project_id, instance.offer.backend)
        if backend is None:
            return self._seen(act, CreateFailed(message=f"Backend {instance.offer.backend} is not configured"))
        order = InstanceOrder(
            token=instance.token,
            offer=instance.offer,
            name=instance.name,
            project=of.project,
            fleet=instance.fleet_name,
            tags=of.tags,
            data=_data(instance),
        )
        try:
            async with asyncio.timeout(CREATE_DEADLINE_S):
                result = await backend.create_instance(order)
        except MissingDependency as e:
            return self._seen(act, CreateFailed(message=e.message))
        except DatabaseUnavailable:
            raise
        except Exception as e:
            # Surprises of a provider's library too: an order that is tried for ever keeps its instance from ending.
            message = e.message if isinstance(e, BackendError) else f"{type(e).__name__} while creating the instance"
            if not isinstance(e, (BackendError, TimeoutError, OSError)):
                # Where it happened; its words may hold keys.
                bare = RuntimeError(type(e).__name__).with_traceback(e.__traceback__)
                log.error("backend %s could not create %s", backend.name, instance.name, exc_info=bare)
            if act.attempts + 1 >= CREATE_TRIES and instance.remote is None:
                # Whether a machine exists is unknown; terminating verifies by the token that it does not.
                return self._seen(act, CreateFailed(message=message))
            return Again(message)
        if isinstance(result, Created):
            return self._seen(act, InstanceCreated(data=result.data, offer=result.offer, report=result.report))
        if isinstance(result, Unfit):
            return self._unfit(act, result)
        if isinstance(result, OutOfCapacity):
            return self._seen(act, NoCapacity(message=result.message))
        return self._seen(act, CreateFailed(message=result.message))

    def _unfit(self, act: ClaimedAct, result: Unfit) -> Done | Again:
        """A person mends the host meanwhile, or the instance's deadline passes."""
        seen = ((act.ref, HostUnfit(report=result.report)),)
        if act.payload.get("again"):
            return Done(seen)  # it is in use already; the next `apply` looks once more
        error = ", ".join(f"{one.check}: {one.message}" for one in result.report.failed)
        return Again(error, after_s=min(MEND_PAUSE_S * 2 ** min(act.attempts, 10), MAX_MEND_PAUSE_S), seen=seen)

    async def terminate(self, act: ClaimedAct) -> Done | Again:
        """Ends only when the backend itself says that the machine is gone; backs off, never gives up.

        A host of one's own costs nothing: one that does not answer is given up after a while, or when a person says so.
        """
        instance = await self._load(act.ref)
        if instance.terminal:
            return Done()  # abandoned meanwhile: an orphan keeps the memory of the machine
        backend = await self._backends.find(instance.project_id, instance.offer.backend)
        if isinstance(backend, SshBackend):
            return await self._leave(act, instance, backend)
        if backend is not None:
            wait = await put_off(self._store.database, backend, instance, self._clock.now() - act.created_at)
            if wait is not None:
                return wait
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

    async def _leave(self, act: ClaimedAct, instance: Instance, backend: SshBackend) -> Done | Again:
        data, abandoned = _data(instance), instance.abandon_requested_at is not None
        try:
            async with asyncio.timeout(ABANDON_DEADLINE_S if abandoned else TERMINATE_DEADLINE_S):
                result = await backend.terminate_instance(instance.token, data)
        except (DstackError, TimeoutError, OSError) as e:
            why = e.message if isinstance(e, DstackError) else f"{type(e).__name__} while leaving the host"
            waited = self._clock.now() - act.created_at
            if data is not None and instance.data is None:  # it was never set up: there is nothing to be left
                await backend.leave(data)
                return self._seen(act, Gone())
            if data is None or not (abandoned or waited >= FAREWELL_S):
                return Again(why, after_s=min(MEND_PAUSE_S * 2 ** min(act.attempts, 10), MAX_MEND_PAUSE_S))
            log.warning("instance %s is given up, its host keeps the agent: %s", instance.name, why)
            await backend.leave(data)
            return self._seen(act, Gone(message=f"its host keeps the agent and what it runs: {why}"))
        message = result.message if isinstance(result, Terminated) else ""
        return self._seen(act, Gone(message=message))

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
        elif state.message and state.message != instance.unreachable_message:
            await self._store.observe([(probe.ref, HostTrouble(message=state.message))], probe.payload["now"])

    async def _load(self, ref: Ref) -> Instance:
        return await row(self._store.database, Instance, ref.id)

    @staticmethod
    def _seen(act: ClaimedAct, *observations: InstanceCreated | NoCapacity | CreateFailed | Gone) -> Done:
        return Done(tuple((act.ref, o) for o in observations))


def _data(instance: Instance) -> ProvisioningData | None:
    """Where the machine is; of a host of one's own that is known before anybody looked at it."""
    hop = instance.remote.hop if instance.remote is not None else None
    if hop is None:
        return instance.data
    fresh = host_data(instance.token, instance.id, hop.hostname, hop.port, hop.user)
    return fresh.model_copy(update={"internal_ip": instance.remote and instance.remote.internal_ip})
