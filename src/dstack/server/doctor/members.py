"""The check of the servers: which of them work on this database, and of which release they are."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from dstack import __version__
from dstack.server.doctor.finding import Finding, ago
from dstack.server.store.servers import Seen, known

FORGOTTEN_S = 86400.0


async def servers(connection: AsyncConnection, now: float, sqlite: bool) -> Finding:
    """Never a failure: nobody can tell a server that was stopped for good from one that should run."""
    found = await known(connection, now)
    shown = [one for one in found if one.live or now - one.last_seen < FORGOTTEN_S]
    data = {"servers": [{"name": one.name, "version": one.version, "live": one.live} for one in shown]}
    if sqlite:  # which has one server at a time, and does not say whether it lives
        latest = max(found, key=lambda one: one.started_at, default=None)
        if latest is None:
            return Finding("servers", True, "none was ever started", (), data)
        return Finding("servers", True, f"last started {ago(now - latest.started_at)} ago{_release(latest)}", (), data)
    live = sum(one.live for one in shown)
    lines = [f"{one.name}, {_since(one, now)}{_release(one)}" for one in shown]
    return Finding("servers", True, f"{live} of {len(shown)} run", tuple(lines), data)


def _since(one: Seen, now: float) -> str:
    return (
        f"started {ago(now - one.started_at)} ago" if one.live else f"stopped or gone since {ago(now - one.last_seen)}"
    )


def _release(one: Seen) -> str:
    return "" if one.version == __version__ else f", with dstack {one.version}"
