"""What retention deletes among uploaded files: archives that no run names, and bytes that nothing refers to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select

from dstack.server.effects.retention_rows import BATCH
from dstack.server.store.blobs import BlobStore
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES, archive, repo_code

_run = TABLES["run"]
_HASH = re.compile(r"[0-9a-f]{64}")
PAGE = 500


class FileRules:
    """Each deletes at most BATCH of what is older than `before` and answers how many."""

    def __init__(self, database: Database, blobs: BlobStore):
        self._database = database
        self._blobs = blobs

    async def uploads(self, before: float) -> int:
        """Rows of uploads that no run names. A client that needs one again uploads it again."""
        async with self._database.read() as connection:
            old = select(archive.c.id, archive.c.hash).where(archive.c.created_at < before)
            archives = (await connection.execute(old.order_by(archive.c.created_at))).all()
            key = (repo_code.c.project_id, repo_code.c.repo_id, repo_code.c.hash)
            codes = (await connection.execute(select(*key).where(repo_code.c.created_at < before))).all()
        if not archives and not codes:
            return 0
        used = await self._named_by_runs()
        unused = [row.id for row in archives if row.hash not in used][:BATCH]
        unused_codes = [row for row in codes if row.hash not in used][: BATCH - len(unused)]
        async with self._database.write() as connection:
            await connection.execute(delete(archive).where(archive.c.id.in_(unused)))
            for row in unused_codes:
                same = [column == value for column, value in zip(key, row, strict=True)]
                await connection.execute(delete(repo_code).where(*same))
        return len(unused) + len(unused_codes)

    async def blobs(self, before: float) -> int:
        """Files that no upload and no run refers to any more, and what broken uploads left."""
        old = await asyncio.to_thread(self._blobs.older_than, before)
        if not old:
            return 0
        async with self._database.read() as connection:
            uploads = (await connection.execute(select(archive.c.hash).union(select(repo_code.c.hash)))).scalars()
            referred = set(uploads)
        unused = [hash_ for hash_ in old if hash_ not in referred]
        used = await self._named_by_runs() if unused else set()
        unused = [hash_ for hash_ in unused if hash_ not in used][:BATCH]
        await asyncio.to_thread(self._remove, unused, before)
        return len(unused)

    async def _named_by_runs(self) -> set[str]:
        """Everything in the runs that looks like a hash: more than is used perhaps, never less."""
        found: set[str] = set()
        last = ""
        while True:
            page = select(_run.c.id, _run.c.spec).where(_run.c.id > last).order_by(_run.c.id).limit(PAGE)
            async with self._database.read() as connection:
                rows: Sequence = (await connection.execute(page)).all()
            for row in rows:
                found.update(_HASH.findall(row.spec))
            if len(rows) < PAGE:
                return found
            last = rows[-1].id
            await asyncio.sleep(0)

    def _remove(self, hashes: Iterable[str], before: float) -> None:
        for hash_ in hashes:
            self._blobs.remove(hash_, before)
