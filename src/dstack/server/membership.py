"""This server's place among those of its database: who it is, entering, and leaving."""

from __future__ import annotations

import asyncio
import logging
import socket

from dstack import __version__
from dstack.clock import Clock
from dstack.ids import new_id
from dstack.server.effects.presence import Presence
from dstack.server.logs import storage
from dstack.server.settings import Settings
from dstack.server.store import servers
from dstack.server.store.database import Database
from dstack.server.store.servers import Member

log = logging.getLogger(__name__)
LEAVE_S = 5.0


def myself(settings: Settings) -> Member:
    """This process. Its id is the same after a restart, so that it takes up what it left."""
    file = settings.data_dir / "server.id"
    id_ = file.read_text().strip() if file.exists() else ""
    if not id_:  # a crash, or a full disk, can have left it empty
        id_ = new_id()
        file.write_text(id_)
    return Member(id_, new_id(), f"{socket.gethostname()}:{settings.data_dir.resolve()}", __version__)


async def enter(database: Database, settings: Settings, me: Member, clock: Clock) -> None:
    """Register this process; what an earlier life of it held is free. Raises DstackError when it may not work here."""
    async with database.write() as connection:
        await storage.check(connection, settings.shared_dir, me, clock.now())
        await servers.join(connection, me, clock.now())


async def recheck(database: Database, settings: Settings, me: Member, clock: Clock) -> None:
    """May a server that others took for dead go on? Raises DstackError."""
    async with database.write() as connection:
        await storage.check(connection, settings.shared_dir, me, clock.now())


async def leave(presence: Presence) -> None:
    """Give everything back at once; where the database does not answer, the others find out by themselves."""
    try:
        async with asyncio.timeout(LEAVE_S):
            await presence.leave()
    except Exception as e:
        log.warning("the others were not told that this server stops: %s", type(e).__name__)
