"""Recorded acts and the inbox: claiming what must happen outside, and storing what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.observation import Observation
from dstack.model.row import Ref
from dstack.server.store.claims import claiming, unclaimed_due
from dstack.server.store.commit import wake
from dstack.server.store.tables import TABLES, act, inbox

Seen = tuple[Ref, Observation]


_DUE = select(act.c.token).where(unclaimed_due(act)).order_by(act.c.due_at).limit(bindparam("limit"))
_LIVING = {
    kind: select(t.c.id).where(t.c.id.in_(bindparam("ids", expanding=True)), t.c.due_at.is_not(None))
    for kind, t in TABLES.items()
}
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
    connection: AsyncConnection, now: float, owner: str, limit: int, lease_s: float
) -> list[ClaimedAct]:
    tokens = list((await connection.execute(_DUE, {"now": now, "limit": limit})).scalars())
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


async def observe(connection: AsyncConnection, observations: Iterable[Seen], now: float) -> None:
    """Put observations into the inboxes of their resources and make those due; finished resources hear nothing."""
    seen = await _of_living(connection, list(observations))
    if not seen:
        return
    rows = [
        {"kind": ref.kind, "resource_id": ref.id, "observation": o.model_dump_json(exclude_defaults=False), "at": now}
        for ref, o in seen
    ]
    await connection.execute(insert(inbox), rows)
    await wake(connection, {ref for ref, _ in seen}, now)


async def _of_living(connection: AsyncConnection, seen: list[Seen]) -> list[Seen]:
    """Without those of rows that are finished or unknown: nobody would ever consume them."""
    living: set[Ref] = set()
    for kind in {ref.kind for ref, _ in seen}:
        ids = sorted({ref.id for ref, _ in seen if ref.kind == kind})
        living |= {Ref(kind, id_) for id_ in (await connection.execute(_LIVING[kind], {"ids": ids})).scalars()}
    return [(ref, observation) for ref, observation in seen if ref in living]


def _held(one: ClaimedAct) -> Any:
    return (act.c.token == one.token) & (act.c.claimed_by == one.owner) & (act.c.fence == one.fence)
