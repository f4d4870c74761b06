"""`Store`: what the engine and the services need of the database, one method a transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from dstack.control.kernel import Turn
from dstack.control.snapshots import Snapshot
from dstack.model.row import Ref
from dstack.server.store import acts, claims, host_links, servers
from dstack.server.store.acts import ClaimedAct, Seen
from dstack.server.store.claims import Claim
from dstack.server.store.commit import Committed, commit
from dstack.server.store.database import Database
from dstack.server.store.host_links import Hold, Linkable
from dstack.server.store.load import Loader, OffersOf
from dstack.server.store.outcomes import Outcome, Retry, record
from dstack.server.store.servers import Member, Others, Pulse
from dstack.server.store.together import Together


class Store:
    """Times are given by the caller; nothing here reads a clock."""

    def __init__(self, database: Database, offers_of: OffersOf):
        self.database = database
        self._offers_of = offers_of
        self._outcomes = Together[Outcome, bool](database, record)

    async def claim_due(self, now: float, owner: str, limit: int, lease_s: float) -> list[Claim]:
        async with self.database.write() as connection:
            return await claims.claim_due(connection, now, owner, limit, lease_s)

    async def load(self, refs: Sequence[Ref]) -> dict[Ref, Snapshot]:
        async with self.database.read() as connection:
            return await Loader(connection, self._offers_of, self.database.kept).load(refs)

    async def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
        async with self.database.write() as connection:
            return await commit(connection, batch, now)

    async def release(self, held: list[Claim], due_at: float) -> None:
        async with self.database.write() as connection:
            await claims.release(connection, held, due_at)

    async def next_due(self) -> float | None:
        async with self.database.read() as connection:
            return await claims.next_due(connection)

    async def next_act_due(self, owner: str, without: Sequence[str] = ()) -> float | None:
        async with self.database.read() as connection:
            return await acts.next_act_due(connection, owner, without)

    async def claim_acts(
        self, now: float, owner: str, limit: int, lease_s: float, without: Sequence[str] = ()
    ) -> list[ClaimedAct]:
        async with self.database.write() as connection:
            return await acts.claim_acts(connection, now, owner, limit, lease_s, without)

    async def extend_acts(self, running: Sequence[ClaimedAct], until: float) -> None:
        async with self.database.write() as connection:
            await acts.extend_acts(connection, running, until)

    async def finish_act(self, one: ClaimedAct, seen: Sequence[Seen], now: float) -> bool:
        """The act is over: forget it and deliver what it saw, together. False if the claim was lost meanwhile."""
        return await self._outcomes.put(Outcome(seen, now, act=one))

    async def retry_act(self, one: ClaimedAct, seen: Sequence[Seen], due_at: float, error: str, now: float) -> bool:
        """The act is not over: it runs again at `due_at`. False if the claim was lost meanwhile."""
        return await self._outcomes.put(Outcome(seen, now, act=one, retry=Retry(due_at, error)))

    async def observe(
        self, seen: Iterable[Seen], now: float, hold: Hold | None = None, hasten: str | None = None
    ) -> None:
        """Put observations into the inboxes of their resources and make those due; finished resources hear nothing.

        With `hold` they are those of a host's holder: raises StaleHold when another server is that by now. `hasten`: an
        instance that is there again, or free; what was tried in vain meanwhile for it and its jobs need not wait for
        its next try.
        """
        await self._outcomes.put(Outcome(tuple(seen), now, hold=hold, hasten=hasten))

    async def linkable(self, server_id: str, ids: Collection[str] | None) -> list[Linkable]:
        async with self.database.read() as connection:
            return await host_links.linkable(connection, server_id, ids)

    async def gone_hosts(self, server_id: str) -> list[str]:
        async with self.database.read() as connection:
            return await host_links.gone(connection, server_id)

    async def take_links(self, server_id: str, ids: Sequence[str]) -> list[Hold]:
        async with self.database.write() as connection:
            return await host_links.take(connection, server_id, ids)

    async def give_back_links(self, holds: Collection[Hold]) -> None:
        async with self.database.write() as connection:
            await host_links.give_back(connection, holds)

    async def let_go_of_links(self, server_id: str, ids: Sequence[str]) -> None:
        async with self.database.write() as connection:
            await host_links.let_go(connection, server_id, ids)

    async def forget_link(self, hold: Hold) -> None:
        async with self.database.write() as connection:
            await host_links.forget(connection, hold)

    async def link_counts(self) -> dict[str, int]:
        async with self.database.read() as connection:
            return await host_links.counts(connection)

    async def beat(
        self,
        me: Member,
        now: float,
        lease_s: float = servers.LEASE_S,
        slack_s: Callable[[], float] = lambda: 0.0,
    ) -> tuple[Pulse, Others]:
        async with self.database.write() as connection:
            return await servers.beat(connection, me, now, lease_s, slack_s)

    async def leave(self, me: Member) -> None:
        async with self.database.write() as connection:
            await servers.leave(connection, me)
