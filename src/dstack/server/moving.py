"""`dstack server migrate --to URL`: moves the state of a stopped server into another database."""

from __future__ import annotations

import os
import sys

from dstack.errors import DstackError, UsageError
from dstack.server.exclusive import exclusive
from dstack.server.settings import Settings, async_url
from dstack.server.store.copying import copy
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade

TARGET = "DSTACK_SERVER_MIGRATE_TO"  # not in argv, which everybody can read: it may hold a password


async def move(settings: Settings) -> None:
    """Copy the server's SQLite database into the empty one that TARGET names, and say what to do next.

    Logs, archives and the encryption key stay in the data folder, which the server goes on using.
    """
    target = os.environ.get(TARGET)
    if not target:
        raise UsageError(
            "`dstack server migrate` needs --to URL", hint="for example --to postgresql://user@host/dstack"
        )
    if settings.database_url or not settings.sqlite_path.exists():
        raise DstackError(
            f"There is no SQLite database in {settings.data_dir} to move",
            hint="unset DSTACK_DATABASE_URL, and set DSTACK_SERVER_DIR to the folder of the server that is to move",
        )
    with exclusive(settings.data_dir, settings.resolved_database_url):
        await upgrade(settings.resolved_database_url)
        source = Database(settings.resolved_database_url)
        try:
            counts = await copy(source, async_url(target))
        finally:
            await source.close()
    sys.stdout.write(f"Copied {sum(counts.values())} rows of {len(counts)} tables.\n")
    sys.stdout.write("Start the server with DSTACK_DATABASE_URL set to the new database from now on.\n")
    sys.stdout.write(f"{settings.data_dir} still holds logs, archives and the encryption key: keep it.\n")
