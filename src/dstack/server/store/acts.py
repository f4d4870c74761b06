"""Recorded acts and the inbox: claiming what must happen outside, and storing what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, case, delete, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.instance import InstanceStatus
from dstack.model.observation import Observation
from dstack.model.row import Ref
from dstack.server.store.claims import claiming, earliest, unclaimed_due
from dstack.server.store.commit import wake
from dstack.server.store.host_links import Hold, prove
from dstack.server.store.tables import TABLES, act, host_link, inbox

Seen = tuple[Ref, Observation]


_JOB, _INSTANCE = TABLES["job"], TABLES["instance"]
# The host that an act needs: that of its job, or the instance itself.
_HOST_ID = case((act.c.kind == "job", _JOB.c.instance_id), (act.c.kind == "instance", act.c.resource_id))
_WITH_HOST = (
    act.outerjoin(_JOB, and_(act.c.kind == "job", _JOB.c.id == act.c.resource_id))
    .outerjoin(_INSTANCE, _INSTANCE.c.id == _HOST_ID)
    .outerjoin(host_link, host_link.c.instance_id == _INSTANCE.c.id)
)
_OWNER = bindparam("owner")
# Whether a server may run an act: whoever holds the host's link; without a host, everybody. A machine that nobody holds
# yet may be made or ended by everybody, unless it can be reached from one server alone.
_MAY = or_(
    _INSTANCE.c.id.is_(None),
    _INSTANCE.c.status == InstanceStatus.TERMINATED,
    host_link.c.server_id == _OWNER,
    and_(
        act.c.kind == "instance",
        host_link.c.server_id.is_(None),
        or_(host_link.c.only.is_(None), host_link.c.only == _OWNER),
    ),
)


# Verbs that have their share of the workers already are left for later.
_OTHER_VERB = act.c.verb.not_in(bindparam("without", expanding=True))


def _due(source: Any, may: Any) -> Any:
    found = select(act.c.token).select_from(source).where(unclaimed_due(act), may, _OTHER_VERB)
    return found.order_by(act.c.due_at).limit(bindparam("limit"))


# One server has a SQLite file for itself: it may run everything.
_DUE_ALONE = _due(act, true())
_DUE_SHARED = _due(_WITH_HOST, _MAY)
_NEXT_ALONE = earliest(act, act, _OTHER_VERB)
_NEXT_SHARED = earliest(act, _WITH_HOST, and_(_MAY, _OTHER_VERB))
_CLAIM = claiming(act, "token", act)


@dataclass(frozen=True, slots=True)
class ClaimedAct:
    """An act that this worker runs now; `attempts` counts the earlier tries."""

    ref: Ref
    verb: str
    token: str
    payload: Mapping[str, Any]
    attempts: int
    created_at: float
    owner: str
    fence: int


async def claim_acts(
    connection: AsyncConnection, now: float, owner: str, limit: int, lease_s: float, without: Sequence[str] = ()
) -> list[ClaimedAct]:
    """Up to `limit` acts that are due and that `owner` may run, none of them of the verbs `without`."""
    wanted = {"now": now, "limit": limit, "without": list(without)}
    if connection.dialect.name == "sqlite":
        due = await connection.execute(_DUE_ALONE, wanted)
    else:
        due = await connection.execute(_DUE_SHARED, {**wanted, "owner": owner})
    tokens = list(due.scalars())
    if not tokens:
        return []
    values = {"ids": tokens, "now": now, "owner": owner, "until": now + lease_s}
    rows = await connection.execute(_CLAIM, values)
    return [
        ClaimedAct(
            Ref(m["kind"], m["resource_id"]),
            m["verb"],
            m["token"],
            json.loads(m["payload"]),
            m["attempts"],
            m["created_at"],
            owner,
            m["fence"],
        )
        for m in rows.mappings()
    ]


async def next_act_due(connection: AsyncConnection, owner: str, without: Sequence[str] = ()) -> float | None:
    """When the next act that `owner` may run becomes due, claimed or not; None when there is none at all."""
    wanted = {"without": list(without)}
    if connection.dialect.name == "sqlite":
        return (await connection.execute(_NEXT_ALONE, wanted)).scalar()
    return (await connection.execute(_NEXT_SHARED, {**wanted, "owner": owner})).scalar()


async def extend_acts(connection: AsyncConnection, acts: Sequence[ClaimedAct], until: float) -> None:
    """Keep the claims of acts that are still running."""
    for one in acts:
        await connection.execute(update(act).where(_held(one)).values(claim_until=until))


async def hasten_acts(connection: AsyncConnection, instance_id: str, now: float) -> None:
    """Acts on jobs of this instance that wait for another try are due now."""
    job = TABLES["job"]
    jobs = select(job.c.id).where(job.c.instance_id == instance_id)
    waiting = (act.c.kind == "job") & act.c.resource_id.in_(jobs) & act.c.claimed_by.is_(None) & (act.c.due_at > now)
    await connection.execute(update(act).where(waiting).values(due_at=now))


async def finish_act(connection: AsyncConnection, one: ClaimedAct, observations: Sequence[Seen], now: float) -> bool:
    """The act is over: forget it and deliver what it saw, together. False if the claim was lost meanwhile."""
    found = await connection.execute(delete(act).where(_held(one)).returning(act.c.token))
    if found.first() is None:
        return False
    # The resource is woken even without observations: it may have waited for the act to end.
    await observe(connection, observations, now)
    await wake(connection, [one.ref], now)
    return True


async def retry_act(
    connection: AsyncConnection, one: ClaimedAct, observations: Sequence[Seen], due_at: float, error: str, now: float
) -> bool:
    """The act is not over: it runs again at `due_at`. False if the claim was lost meanwhile."""
    found = await connection.execute(
        update(act)
        .where(_held(one))
        .values(attempts=act.c.attempts + 1, last_error=error, due_at=due_at, claimed_by=None, claim_until=None)
        .returning(act.c.token)
    )
    if found.first() is None:
        return False
    await observe(connection, observations, now)
    return True


async def observe(
    connection: AsyncConnection, observations: Iterable[Seen], now: float, hold: Hold | None = None
) -> None:
    """Put observations into the inboxes of their resources and make those due; finished resources hear nothing.

    With `hold` they are those of a host's holder: raises StaleHold when it is not any more.
    """
    if hold is not None:
        await prove(connection, hold)
    seen = list(observations)
    # First, which locks the rows: what is told to one that ends meanwhile would lie there for ever.
    living = await wake(connection, {ref for ref, _ in seen}, now)
    rows = [
        {"kind": ref.kind, "resource_id": ref.id, "observation": o.model_dump_json(exclude_defaults=False), "at": now}
        for ref, o in seen
        if ref in living
    ]
    if rows:
        await connection.execute(insert(inbox), rows)


def _held(one: ClaimedAct) -> Any:
    return (act.c.token == one.token) & (act.c.claimed_by == one.owner) & (act.c.fence == one.fence)
