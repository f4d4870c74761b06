"""Checks of the database: version, latency, schema, the encryption key, and what is not getting on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError
from dstack.model.orphan import Orphan, OrphanStatus
from dstack.server.auth.cipher import Cipher, load_keys
from dstack.server.auth.sealing import CANARY
from dstack.server.doctor.finding import Finding, ago, counted, some
from dstack.server.settings import Settings
from dstack.server.store.codec import decode
from dstack.server.store.migrations import HEAD
from dstack.server.store.servers import known
from dstack.server.store.tables import TABLES, act, inbox, meta

OVERDUE_S = 60.0
OLD_ACT_S = 900.0
UNREAD_S = 900.0
SLOW_S = 0.1
ASKED = 5
SHOWN = 50


async def version(connection: AsyncConnection, sqlite: bool) -> Finding:
    """What it is, and how long the slowest of some simple questions takes."""
    question = "SELECT sqlite_version()" if sqlite else "SHOW server_version"
    found = (await connection.execute(text(question))).scalar()
    slowest_s = 0.0
    for _ in range(ASKED):
        before = time.perf_counter()
        await connection.execute(text("SELECT 1"))
        slowest_s = max(slowest_s, time.perf_counter() - before)
    name = f"{'SQLite' if sqlite else 'PostgreSQL'} {found}"
    data = {"version": name, "latency_ms": round(slowest_s * 1000, 2)}
    return Finding("database", slowest_s < SLOW_S, f"{name}, answers in {slowest_s * 1000:.1f} ms", (), data)


async def schema(connection: AsyncConnection) -> Finding:
    found = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    data = {"version": found, "expected": HEAD}
    if found == HEAD:
        return Finding("schema", True, f"revision {found}, that of this release", (), data)
    hint = "the next start brings it up to date" if str(found) < HEAD else "it was used by a newer release"
    return Finding("schema", False, f"revision {found}, this release has {HEAD}: {hint}", (), data)


async def encryption(connection: AsyncConnection, settings: Settings) -> Finding:
    sealed = (await connection.execute(select(meta.c.value).where(meta.c.key == "canary"))).scalar()
    if sealed is None:
        return Finding("encryption", True, "nothing is sealed yet")
    try:
        keys = load_keys(settings.data_dir / "encryption.key", settings.encryption_keys, may_create=False)
        right = Cipher(*keys).decrypt(sealed) == CANARY
    except (DstackError, OSError) as e:
        return Finding("encryption", False, str(e))
    return Finding(
        "encryption", right, "the key opens what is sealed" if right else "the key is that of another database"
    )


async def overdue(connection: AsyncConnection, now: float, running: bool) -> Finding:
    """Rows that nobody decides. That is as it must be while no server runs, here or elsewhere."""
    running = running or any(one.live for one in await known(connection, now))
    lines: list[str] = []
    for kind, t in TABLES.items():
        free = or_(t.c.claim_until.is_(None), t.c.claim_until <= now)
        late = select(t.c.id, t.c.status, t.c.due_at).where(t.c.due_at < now - OVERDUE_S, free).order_by(t.c.due_at)
        for row in await connection.execute(late.limit(SHOWN)):
            lines.append(f"{kind} {row.id} ({row.status}) is due since {ago(now - row.due_at)}")
    if not lines:
        return Finding("due", True, "nothing is overdue", (), {"overdue": 0})
    note = "" if running else "; no server runs that would look at them"
    many = f"{counted(len(lines), 'resource is', 'resources are')} overdue{note}"
    return Finding("due", not running, many, some(lines), {"overdue": len(lines)})


async def acts(connection: AsyncConnection, now: float) -> Finding:
    """What must happen outside and does not."""
    total = (await connection.execute(select(func.count()).select_from(act))).scalar() or 0
    old = select(act).where(act.c.created_at < now - OLD_ACT_S, act.c.attempts > 0).order_by(act.c.created_at)
    lines = [
        f"{one.verb} of {one.kind} {one.resource_id}: tried {one.attempts} times since {ago(now - one.created_at)}, "
        f"the last: {one.last_error or 'no error'}"
        for one in await connection.execute(old.limit(SHOWN))
    ]
    data = {"unfinished": total, "old": len(lines)}
    if not lines:
        return Finding("acts", True, f"{total} unfinished, none of them tried in vain for long", (), data)
    return Finding("acts", False, f"{len(lines)} of {total} are tried in vain for more than 15m", some(lines), data)


async def unread(connection: AsyncConnection, now: float, running: bool) -> Finding:
    late = select(func.count(), func.min(inbox.c.at)).where(inbox.c.at < now - UNREAD_S)
    count, oldest = (await connection.execute(late)).one()
    if not count:
        return Finding("inbox", True, "everything that was seen is heard", (), {"unread": 0})
    running = running or any(one.live for one in await known(connection, now))
    message = f"{counted(count, 'observation lies', 'observations lie')} unread, the oldest since {ago(now - oldest)}"
    return Finding("inbox", not running, message, (), {"unread": count})


async def orphans(connection: AsyncConnection, now: float) -> Finding:
    t = TABLES["orphan"]
    unsettled = select(t).where(t.c.status != OrphanStatus.SETTLED).order_by(t.c.first_seen)
    rows: Iterable[Any] = (await connection.execute(unsettled)).mappings()
    found = [decode(Orphan, one) for one in rows]
    lines = [
        f"{one.label} ({one.status}, {one.origin}) since {ago(now - one.first_seen)}: {one.token}" for one in found
    ]
    if not lines:
        return Finding("orphans", True, "no machine is without an instance", (), {"orphans": 0})
    message = f"{counted(len(lines), 'machine', 'machines')} may cost money without an owner: `dstack server orphans`"
    return Finding("orphans", False, message, some(lines), {"orphans": len(lines)})


async def chores(connection: AsyncConnection, now: float) -> Finding:
    """When the server last did its own work."""
    t = TABLES["chore"]
    open_ = select(t.c.name, t.c.backend, t.c.ended_at).where(t.c.status == "active").order_by(t.c.name, t.c.backend)
    rows = (await connection.execute(open_)).all()
    lines = tuple(
        f"{one.name}{f' of {one.backend}' if one.backend else ''}: "
        + (f"last {ago(now - one.ended_at)} ago" if one.ended_at is not None else "not yet")
        for one in rows
    )
    return Finding(
        "chores", True, f"{counted(len(rows), 'kind', 'kinds')} of upkeep", some(list(lines)), {"chores": len(rows)}
    )
