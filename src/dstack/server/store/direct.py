"""Single connections to PostgreSQL beside the pools, and what may stand between it and this server."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy.engine import make_url

from dstack.errors import DstackError
from dstack.server.store.trouble import SILENT, DatabaseUnavailable, words

CONNECT_S = 10.0
LOOK_S = 30.0
LOOKS = 3  # a pooler that other servers use as well may happen to give the same session twice
NO_SESSIONS = "The pooler before PostgreSQL does not keep sessions"
_OWN_OPTIONS = ("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback", "async_creator_fn")
_SESSION = "SELECT pg_backend_pid()"


async def connect(url: str) -> Any:
    """An asyncpg connection to the database at the SQLAlchemy URL."""
    import asyncpg  # only servers on PostgreSQL have it loaded

    parsed = make_url(url)
    _, options = parsed.get_dialect()().create_connect_args(parsed)
    return await asyncpg.connect(**{name: value for name, value in options.items() if name not in _OWN_OPTIONS})


async def check_sessions(url: str) -> None:
    """Raises DstackError where a pooler gives each transaction a session of its own, DatabaseUnavailable.

    There what was set for a connection (how long it waits for a lock) holds for whoever is next, prepared statements
    are not found, and nobody hears what others NOTIFY: all of it now and then, and under load.
    """
    try:
        async with asyncio.timeout(LOOK_S):
            kept = await _sessions_are_kept(url)
    except Exception as e:
        why = words(e) or (SILENT if isinstance(e, OSError) else None)
        if why is None:
            raise
        raise DatabaseUnavailable(f"The database cannot be used: {why}") from e
    if not kept:
        raise DstackError(
            NO_SESSIONS,
            hint="set pool_mode = session for this database in PgBouncer, or give DSTACK_DATABASE_URL the address of "
            "PostgreSQL itself",
        )


async def _sessions_are_kept(url: str) -> bool:
    mine = await connect(url)
    try:
        session = await mine.fetchval(_SESSION)
        if session == mine.get_server_pid():
            return True  # PostgreSQL itself: a pooler gives its clients numbers of its own
        other = await connect(url)
        try:
            return await _have_one_each(mine, session, other)
        finally:
            other.terminate()
    finally:
        mine.terminate()


async def _have_one_each(mine: Any, session: int, other: Any) -> bool:
    """Whether `mine` has its `session` still, and alone, while `other` is in the middle of a transaction."""
    import asyncpg

    for _ in range(LOOKS):
        if await mine.fetchval(_SESSION) != session:
            return False
        try:
            async with other.transaction():
                if await other.fetchval(_SESSION) == session or await mine.fetchval(_SESSION) != session:
                    return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            return False  # nor does it keep transactions
    return True
