"""The offers of a project's backends together."""

from __future__ import annotations

import asyncio

from dstack.clock import WallClock
from dstack.model.offer import Offer, Resources
from dstack.server.services.offers import FRESH_S, OffersService
from support.yard import SetClock

OFFER = Offer(backend="good", region="r", instance_type="t", price=1, resources=Resources(cpus=1, memory_mib=1))


class Good:
    name = "good"

    async def offers(self, _requirements: object) -> list[Offer]:
        return [OFFER]


class Broken:
    name = "broken"

    async def offers(self, _requirements: object) -> list[Offer]:
        raise KeyError("a field that the provider left out")


class Backends:
    async def of_project(self, _project_id: str) -> dict[str, object]:
        return self.made

    def __init__(self) -> None:
        self.made: dict[str, object] = {"good": Good(), "broken": Broken()}


async def test_a_backend_that_breaks_in_an_unforeseen_way_leaves_the_offers_of_the_others():
    offers = OffersService(Backends(), WallClock())  # type: ignore[arg-type]
    assert await offers.all("project") == (OFFER,)


class Slow:
    """Answers when it is let."""

    name = "slow"

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def offers(self, _requirements: object) -> list[Offer]:
        self.asked += 1
        await self.may_answer.wait()
        return [OFFER.model_copy(update={"price": float(self.asked)})]


async def test_a_backend_that_takes_its_time_is_waited_for_the_first_time_only():
    backends, slow, clock = Backends(), Slow(), SetClock()
    backends.made = {"slow": slow}
    offers = OffersService(backends, clock, patience_s=0.0)  # type: ignore[arg-type]
    slow.may_answer.set()
    assert [one.price for one in await offers.all("project")] == [1.0]
    slow.may_answer.clear()
    clock.at += FRESH_S
    async with asyncio.timeout(30):
        for _ in range(3):
            assert [one.price for one in await offers.all("project")] == [1.0], "what it last had"
    assert slow.asked == 2, "it is asked once at a time"
    slow.may_answer.set()
    async with asyncio.timeout(30):
        while [one.price for one in await offers.all("project")] != [2.0]:
            await asyncio.sleep(0)
    await offers.aclose()
