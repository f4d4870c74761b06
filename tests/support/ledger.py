"""One face for every store that commits decisions, so that one suite holds all of them to the same contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import insert, select, update

from dstack.control.kernel import Decision, Turn
from dstack.model.observation import Observation
from dstack.model.row import Ref, Row
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.claims import Claim
from dstack.server.store.codec import decode, encode
from dstack.server.store.commit import Committed
from dstack.server.store.store import Store
from dstack.server.store.tables import ROW_TYPES, TABLES, act, event, inbox

OWNER = "server-a"
LEASE_S = 30.0


class Ledger(Protocol):
    async def add(self, row: Row, due_at: float) -> None: ...
    async def get(self, ref: Ref) -> Any: ...
    async def claim(self, now: float, owner: str = OWNER, limit: int = 256) -> dict[Ref, Claim]: ...
    async def commit(self, *pairs: tuple[Claim, Decision | Turn], now: float) -> Committed: ...
    async def intend(self, ref: Ref, now: float, **fields: Any) -> None: ...
    async def observe(self, ref: Ref, observation: Observation, now: float) -> None: ...
    async def due_at(self, ref: Ref) -> float | None: ...
    async def inbox_of(self, ref: Ref) -> list[int]: ...
    async def acts_of(self, ref: Ref) -> list[str]: ...
    async def claim_acts(self, now: float, owner: str = OWNER) -> list[ClaimedAct]: ...
    async def finish(self, one: ClaimedAct, seen: Sequence[tuple[Ref, Observation]], now: float) -> bool: ...
    async def retry(self, one: ClaimedAct, due_at: float, now: float) -> bool: ...
    async def events(self) -> list[str]: ...


class SqlLedger:
    def __init__(self, store: Store):
        self.store = store
        self.database = store.database

    async def add(self, row: Row, due_at: float) -> None:
        async with self.database.write() as connection:
            await connection.execute(insert(TABLES[row.kind]).values(**encode(row), due_at=due_at))

    async def get(self, ref: Ref) -> Any:
        table = TABLES[ref.kind]
        async with self.database.read() as connection:
            found = (await connection.execute(select(table).where(table.c.id == ref.id))).mappings().first()
        return decode(ROW_TYPES[ref.kind], found) if found else None

    async def claim(self, now: float, owner: str = OWNER, limit: int = 256) -> dict[Ref, Claim]:
        return {c.ref: c for c in await self.store.claim_due(now, owner, limit, LEASE_S)}

    async def commit(self, *pairs: tuple[Claim, Decision | Turn], now: float) -> Committed:
        batch = [(claim, one if isinstance(one, Turn) else Turn(one)) for claim, one in pairs]
        return await self.store.commit(batch, now)

    async def intend(self, ref: Ref, now: float, **fields: Any) -> None:
        table = TABLES[ref.kind]
        values = {**fields, "version": table.c.version + 1, "wake_seq": table.c.wake_seq + 1, "due_at": now}
        async with self.database.write() as connection:
            await connection.execute(update(table).where(table.c.id == ref.id).values(**values))

    async def observe(self, ref: Ref, observation: Observation, now: float) -> None:
        await self.store.observe([(ref, observation)], now)

    async def due_at(self, ref: Ref) -> float | None:
        table = TABLES[ref.kind]
        async with self.database.read() as connection:
            return (await connection.execute(select(table.c.due_at).where(table.c.id == ref.id))).scalar()

    async def inbox_of(self, ref: Ref) -> list[int]:
        async with self.database.read() as connection:
            found = await connection.execute(select(inbox.c.id).where(inbox.c.resource_id == ref.id))
            return list(found.scalars())

    async def acts_of(self, ref: Ref) -> list[str]:
        async with self.database.read() as connection:
            found = await connection.execute(select(act.c.verb).where(act.c.resource_id == ref.id))
            return list(found.scalars())

    async def claim_acts(self, now: float, owner: str = OWNER) -> list[ClaimedAct]:
        return await self.store.claim_acts(now, owner, 100, LEASE_S)

    async def finish(self, one: ClaimedAct, seen: Sequence[tuple[Ref, Observation]], now: float) -> bool:
        return await self.store.finish_act(one, seen, now)

    async def retry(self, one: ClaimedAct, due_at: float, now: float) -> bool:
        return await self.store.retry_act(one, (), due_at, "", now)

    async def events(self) -> list[str]:
        async with self.database.read() as connection:
            return list((await connection.execute(select(event.c.message).order_by(event.c.seq))).scalars())
