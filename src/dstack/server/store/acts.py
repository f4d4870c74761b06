"""Recorded acts: which of what must happen outside this server runs now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, case, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.instance import InstanceStatus
from dstack.model.observation import Observation
from dstack.model.row import Ref
from dstack.server.store.claims import claiming, earliest, unclaimed_due
from dstack.server.store.tables import TABLES, act, host_link

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


_EXTEND = (
    update(act)
    .where(
        act.c.token == bindparam("of"), act.c.claimed_by == bindparam("holder"), act.c.fence == bindparam("its_fence")
    )
    .values(claim_until=bindparam("to"))
)


async def extend_acts(connection: AsyncConnection, acts: Sequence[ClaimedAct], until: float) -> None:
    """Keep the claims of acts that are still running."""
    held = [{"of": one.token, "holder": one.owner, "its_fence": one.fence, "to": until} for one in acts]
    if held:
        await connection.execute(_EXTEND, sorted(held, key=lambda x: x["of"]))


_ON = bindparam("instances", expanding=True)
_HASTEN = (
    update(act)
    .where(
        (act.c.kind == "instance") & act.c.resource_id.in_(_ON)
        | (act.c.kind == "job") & act.c.resource_id.in_(select(_JOB.c.id).where(_JOB.c.instance_id.in_(_ON))),
        act.c.claimed_by.is_(None),
        act.c.due_at > bindparam("now"),
    )
    .values(due_at=bindparam("now"))
)


async def hasten_acts(connection: AsyncConnection, instance_ids: Sequence[str], now: float) -> None:
    """Acts on these instances and their jobs that wait for another try are due now."""
    await connection.execute(_HASTEN, {"instances": instance_ids, "now": now})
