"""Rows as they were decoded, and text that was made of them: what has the same version is not made once more.

A version grows with every committed change of a row's fields, so a row that is kept and has the version that the
database tells is the row. Only what a reading transaction saw is kept: what a writing one sees may be rolled back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.model.row import Ref, Row
from dstack.server.store.codec import decode
from dstack.server.store.tables import TABLES
from dstack.server.store.trouble import Trouble

R = TypeVar("R", bound=Row)
MOST = 25_000
AT_ONCE = 100  # so many are read and decoded in one go, then others have their turn


class Kept:
    """Of one database, for those who read it; one that was in `trouble` may have come back as an older one."""

    def __init__(self, trouble: Trouble):
        self._trouble = trouble
        self._troubles = 0
        self._rows: OrderedDict[Ref, Any] = OrderedDict()
        self._texts: OrderedDict[str, Mapping[str, bytes]] = OrderedDict()
        self._texts_count = 0

    def decoded(self, cls: type[R], columns: Any) -> R:
        """The row of a database mapping that has all columns."""
        known = self.get(Ref(cls.kind, columns["id"]), columns["version"])
        return known if known is not None else self._keep(decode(cls, columns))

    def get(self, ref: Ref, version: int) -> Any:
        """The row at this version; None when it is not kept."""
        self._forget_after_trouble()
        row = self._rows.get(ref)
        if row is None or row.version != version:
            return None
        self._rows.move_to_end(ref)
        return row

    async def rows(
        self, connection: AsyncConnection, cls: type[R], *conditions: Any, order: Sequence[Any] = ()
    ) -> list[R]:
        """All rows of `cls` that meet the conditions: their versions are asked for first, then what is not kept."""
        t = TABLES[cls.kind]
        found = (await connection.execute(select(t.c.id, t.c.version).where(*conditions).order_by(*order))).all()
        rows: dict[str, Any] = {}
        missing: list[str] = []
        for id_, version in found:
            row = rows[id_] = self.get(Ref(cls.kind, id_), version)
            if row is None:
                missing.append(id_)
        for start in range(0, len(missing), AT_ONCE):
            some = await connection.execute(select(t).where(t.c.id.in_(missing[start : start + AT_ONCE])))
            rows |= {columns["id"]: self._keep(decode(cls, columns)) for columns in some.mappings()}
            if len(missing) > AT_ONCE:
                await asyncio.sleep(0)
        return list(rows.values())

    def texts(self, of: str) -> Mapping[str, bytes]:
        """What was made last of the rows of one owner, by all that each text depends on, as their ids and versions."""
        self._forget_after_trouble()
        if of in self._texts:
            self._texts.move_to_end(of)
        return self._texts.get(of, {})

    def keep_texts(self, of: str, texts: Mapping[str, bytes]) -> None:
        """These instead of those before. The longest unused go, while there are more than MOST in all."""
        self._texts_count += len(texts) - len(self._texts.pop(of, {}))
        self._texts[of] = texts
        while len(self._texts) > 1 and self._texts_count > MOST:
            _, gone = self._texts.popitem(last=False)
            self._texts_count -= len(gone)

    def _keep(self, row: R) -> R:
        self._rows[row.ref] = row
        self._rows.move_to_end(row.ref)
        if len(self._rows) > MOST:
            self._rows.popitem(last=False)
        return row

    def _forget_after_trouble(self) -> None:
        if self._troubles != self._trouble.count:
            self._troubles = self._trouble.count
            self._rows.clear()
            self._texts.clear()
            self._texts_count = 0
