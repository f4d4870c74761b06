"""The cipher of a database: proves that its keys are the right ones, and seals everything anew under a newer one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError
from dstack.server.auth.cipher import Cipher, load_keys
from dstack.server.auth.node_keys import NAME as NODE_KEYS
from dstack.server.store.database import Database
from dstack.server.store.tables import meta, metadata

log = logging.getLogger(__name__)
CANARY = b"dstack"
_OWN = meta.c.key == "canary"


async def open_cipher(database: Database, key_file: Path, given: Sequence[bytes]) -> Cipher:
    """The cipher of this database; `given` are keys of the settings, the newest first.

    Raises DstackError when none of the keys is the one that sealed it.
    """
    async with database.write() as connection:
        found = select(meta.c.value).where(_OWN).with_for_update()
        sealed = (await connection.execute(found)).scalar()
        cipher = Cipher(*load_keys(key_file, given, may_create=sealed is None))
        if sealed is None:
            await connection.execute(insert(meta).values(key="canary", value=cipher.encrypt(CANARY)))
        elif cipher.decrypt(sealed) != CANARY:
            raise DstackError("The database was sealed with another encryption key")
        elif not cipher.is_newest(sealed):
            count = await reseal(connection, cipher)
            await connection.execute(update(meta).where(_OWN).values(value=cipher.encrypt(CANARY)))
            log.info("%d secrets were sealed anew with the newest encryption key; the older ones can go", count)
    return cipher


async def reseal(connection: AsyncConnection, cipher: Cipher) -> int:
    """Seal everything with the newest key that is not; answers how many values."""
    count = 0
    for table in metadata.sorted_tables:
        key = list(table.primary_key.columns)
        for column in (c for c in table.columns if c.info.get("sealed")):
            rows = (await connection.execute(select(*key, column).where(column.is_not(None)))).all()
            for *ids, sealed in rows:
                if not cipher.is_newest(sealed):
                    same = [k == id_ for k, id_ in zip(key, ids, strict=True)]
                    value = {column.name: cipher.encrypt(cipher.decrypt(sealed))}
                    await connection.execute(update(table).where(*same).values(value))
                    count += 1
    return count + await _reseal_own(connection, cipher)


async def _reseal_own(connection: AsyncConnection, cipher: Cipher) -> int:
    """Of `meta`, whose values are not all sealed."""
    own = meta.c.key == NODE_KEYS
    sealed = (await connection.execute(select(meta.c.value).where(own))).scalar()
    if sealed is None or cipher.is_newest(sealed):
        return 0
    await connection.execute(update(meta).where(own).values(value=cipher.encrypt(cipher.decrypt(sealed))))
    return 1
