"""What in a pool serves one set of requirements, and what does not."""

from __future__ import annotations

from dataclasses import dataclass, field

from dstack.control.scheduling.pool import Shelf
from dstack.control.scheduling.reasons import Miss
from dstack.model.fleet import Fleet
from dstack.model.offer import Offer
from dstack.model.requirements import Requirements


@dataclass(eq=False, slots=True)
class ShelfFit:
    shelf: Shelf
    blocks: int

    def order(self) -> tuple:
        offer = self.shelf.offer
        return (self.shelf.rung, offer.price, self.shelf.fleet.name, offer.key, self.shelf.total_blocks)


@dataclass(eq=False, slots=True)
class OfferFit:
    offer: Offer
    fleet: Fleet
    blocks: int
    total_blocks: int


@dataclass(eq=False, slots=True)
class Fits:
    """All that serves one set of requirements in one pool; computed once, extended as shelves appear."""

    requirements: Requirements
    names: frozenset[str] | None
    shelves: list[ShelfFit] = field(default_factory=list)
    offers: list[list[OfferFit]] = field(default_factory=list)  # per offer, its fleets in order
    shelf_misses: list[tuple[Miss, Shelf]] = field(default_factory=list)
    offer_misses: list[Miss] = field(default_factory=list)
    seen_shelves: int = 0
    offers_seen: bool = False
