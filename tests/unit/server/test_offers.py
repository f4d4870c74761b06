"""The offers of a project's backends together."""

from __future__ import annotations

from dstack.clock import WallClock
from dstack.model.offer import Offer, Resources
from dstack.server.services.offers import OffersService

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
