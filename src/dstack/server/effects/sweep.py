"""Sweeps: asks a backend for all machines under our tag and tells how that differs from the rows; ends orphans."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.backends.base import Backend, ListedInstance, Terminated
from dstack.backends.errors import BackendError
from dstack.clock import Clock
from dstack.control.chore.compare import Differences, KnownInstance, KnownOrphan, compare
from dstack.control.chore.decide import CONFIRM_S
from dstack.control.kernel import Probe
from dstack.ids import derived_id
from dstack.model.chore import Chore
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.observation import Adopted, BackendRemoved, Gone, Stranger, Swept, Vanished
from dstack.model.orphan import Orphan, OrphanStatus
from dstack.model.row import Ref
from dstack.server.effects.acts import Again, Done
from dstack.server.services.backends import ProjectBackends
from dstack.server.store.acts import ClaimedAct, Seen
from dstack.server.store.rows import paged, row
from dstack.server.store.store import Store
from dstack.server.store.tables import TABLES
from dstack.server.store.tables import backend as backend_t

log = logging.getLogger(__name__)
LIST_DEADLINE_S = 120.0
DESCRIBE_DEADLINE_S = 60.0
TERMINATE_DEADLINE_S = 120.0
RETRY_S = 300.0  # after a backend that could not be asked
OTHERS_S = 60.0  # a chore of another server was found: it will take it itself
MAX_TOLD = 500  # differences of one kind that one sweep tells; the next tells the rest
ALARM_AFTER = 10

_instance, _orphan = TABLES["instance"], TABLES["orphan"]
_GOING = (InstanceStatus.TERMINATING, InstanceStatus.PENDING)


class Sweeper:
    """`owner` is this server's name: machines of its own backends are there for no other server."""

    def __init__(self, store: Store, backends: ProjectBackends, clock: Clock, owner: str):
        self._store = store
        self._backends = backends
        self._clock = clock
        self._owner = owner

    async def sweep(self, act: ClaimedAct) -> Done | Again:
        """One comparison. A backend that cannot be asked is asked again later; nothing is concluded from silence."""
        chore = await row(self._store.database, Chore, act.ref.id)
        if chore.server and chore.server != self._owner:
            return Again("it belongs to another server", after_s=OTHERS_S)
        if not await self._configured(chore.project_id, chore.backend):
            return Done(((act.ref, BackendRemoved()),))
        backend = await self._backend(chore.project_id, chore.backend)
        if backend is None:
            return Again(f"backend {chore.backend} cannot be used as it is configured", after_s=RETRY_S)
        at = self._clock.now()
        try:
            async with asyncio.timeout(LIST_DEADLINE_S):
                listed = await backend.list_instances()
        except (BackendError, TimeoutError, OSError) as e:
            return Again(_words(e, "listing instances"), after_s=RETRY_S)
        async with self._store.database.read() as connection:
            living = await _living(connection, chore)
            orphans = await _orphans(connection, chore)
        found = compare([one.token for one in listed], living, orphans, at)
        lost = await self._confirmed_lost(chore, backend, found.unlisted, at)
        swept = Swept(
            at=at,
            strangers=await self._strangers(chore, listed, found),
            unlisted=found.unlisted[:MAX_TOLD],
            unlisted_orphans=found.unlisted_orphans[:MAX_TOLD],
        )
        adopted: list[Seen] = [(Ref("orphan", id_), Adopted()) for id_ in found.adopted]
        return Done(((act.ref, swept), *lost, *adopted))

    async def terminate(self, act: ClaimedAct) -> Done | Again:
        """End the machine of an orphan, unless an instance answers for it; done when the backend says it is gone."""
        orphan = await row(self._store.database, Orphan, act.ref.id)
        if orphan.terminal:
            return Done()
        async with self._store.database.read() as connection:
            chore_like = (orphan.project_id, orphan.backend)
            if any([one.token == orphan.token async for one in _all_living(connection, *chore_like)]):
                return Done(((act.ref, Adopted()),))
        backend = await self._backend(orphan.project_id, orphan.backend)
        if backend is None:
            return Again(f"backend {orphan.backend} is not configured", after_s=RETRY_S)
        if act.attempts and act.attempts % ALARM_AFTER == 0:
            log.error("orphaned %s is not gone after %d tries: it may still cost money", orphan.label, act.attempts)
        try:
            async with asyncio.timeout(TERMINATE_DEADLINE_S):
                result = await backend.terminate_instance(orphan.token, orphan.data)
        except (BackendError, TimeoutError, OSError) as e:
            return Again(_words(e, "terminating"))
        if isinstance(result, Terminated):
            return Done(((act.ref, Gone()),))
        return Again("the backend says: still terminating")

    async def report(self, probe: Probe) -> None:
        """Say in the log that a machine waits for a person's decision."""
        orphan = await row(self._store.database, Orphan, probe.ref.id)
        if orphan.status is OrphanStatus.QUARANTINED:
            log.error(
                "orphaned %s (token %s): %s, and it may cost money; `dstack server orphans` lists it, "
                "`dstack server orphans --terminate %s` ends it",
                orphan.label,
                orphan.token,
                "its instance was abandoned" if orphan.instance_id else "no instance answers for it",
                orphan.token,
            )

    async def _backend(self, project_id: str, type_: str) -> Backend | None:
        """None when it cannot be made of its configuration, or when there is none."""
        return await self._backends.find(project_id, type_) if project_id else self._backends.own.get(type_)

    async def _configured(self, project_id: str, type_: str) -> bool:
        if not project_id:
            return type_ in self._backends.own
        same = (backend_t.c.project_id == project_id, backend_t.c.type == type_)
        async with self._store.database.read() as connection:
            return (await connection.execute(select(backend_t.c.type).where(*same))).first() is not None

    async def _confirmed_lost(self, chore: Chore, backend: Backend, unlisted: Sequence[str], at: float) -> list[Seen]:
        """Instances that two sweeps did not find, and of which the backend itself says, when asked, that they are gone.

        A list that forgets machines is thereby told from machines that are lost.
        """
        lost: list[Seen] = []
        for id_ in unlisted[:MAX_TOLD]:
            if at - chore.unlisted.get(id_, at) < CONFIRM_S:
                continue
            instance = await row(self._store.database, Instance, id_)
            if instance.data is None or instance.linked or instance.terminal:
                continue
            try:
                async with asyncio.timeout(DESCRIBE_DEADLINE_S):
                    state = await backend.describe_instance(instance.token, instance.data)
            except (BackendError, TimeoutError, OSError) as e:
                log.warning("instance %s is not listed and cannot be asked for: %s", instance.name, _words(e, "asking"))
                continue
            if state.state == "gone":
                message = state.message or "Its provider does not list it any more"
                lost.append((instance.ref, Vanished(message=message, preempted=state.preempted)))
            else:
                log.warning("the list of backend %s lacks instance %s, which is there", chore.backend, instance.name)
        return lost

    async def _strangers(
        self, chore: Chore, listed: Sequence[ListedInstance], found: Differences
    ) -> tuple[Stranger, ...]:
        """With the terminated instance of each, where there is one."""
        wanted = set(found.strangers[:MAX_TOLD])
        if not wanted:
            return ()
        ended = await self._ended(wanted)
        by_token = {one.token: one for one in listed if one.token in wanted}
        return tuple(
            Stranger(
                token=token,
                backend_id=one.backend_id,
                created_at=one.created_at,
                instance_id=ended.get(token, (None, None))[0],
                instance_name=ended.get(token, (None, None))[1],
            )
            for token, one in sorted(by_token.items())
        )

    async def _ended(self, tokens: set[str]) -> Mapping[str, tuple[str, str]]:
        """Id and name of the terminated instances whose tokens these are, of any project."""
        found: dict[str, tuple[str, str]] = {}
        condition = _instance.c.status == InstanceStatus.TERMINATED
        async with self._store.database.read() as connection:
            async for one in paged(connection, _instance, (_instance.c.id, _instance.c.name), condition):
                if (token := _token(one.id)) in tokens:
                    found[token] = (one.id, one.name)
        return found


async def _living(connection: AsyncConnection, chore: Chore) -> list[KnownInstance]:
    return [one async for one in _all_living(connection, chore.project_id, chore.backend)]


async def _all_living(connection: AsyncConnection, project_id: str, backend: str) -> AsyncIterator[KnownInstance]:
    """Instances that are not terminated, of all projects: two of them may share an account of the provider.

    Those of the server's own backends are judged by nobody: their links tell how they are.
    """
    c = _instance.c
    columns = (c.id, c.project_id, c.status, c.offer, c.data.is_not(None).label("made"), c.started_at, c.linked)
    async for one in paged(connection, _instance, columns, c.status != InstanceStatus.TERMINATED):
        mine = bool(project_id) and one.project_id == project_id and json.loads(one.offer)["backend"] == backend
        there = one.started_at if one.made and one.status not in _GOING else None
        yield KnownInstance(one.id, _token(one.id), mine, there, one.linked)


async def _orphans(connection: AsyncConnection, chore: Chore) -> list[KnownOrphan]:
    """Those of the backend, of all projects, that are not settled."""
    unsettled = (_orphan.c.status != OrphanStatus.SETTLED) & (_orphan.c.backend == chore.backend)
    found = await connection.execute(select(_orphan.c.id, _orphan.c.token, _orphan.c.project_id).where(unsettled))
    return [KnownOrphan(one.id, one.token, one.project_id == chore.project_id) for one in found]


def _token(instance_id: str) -> str:
    """As `Instance.token`, of which the whole row is not needed here."""
    return derived_id(instance_id, "act:create_instance", 0)


def _words(e: Exception, doing: str) -> str:
    return e.message if isinstance(e, BackendError) else f"{type(e).__name__} while {doing}"
