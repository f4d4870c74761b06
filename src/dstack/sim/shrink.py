"""From a seed that breaks to the shortest story that still does: fewer wishes of people, fewer faults."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from dstack.sim.simulation import Result, Simulation

T = TypeVar("T", bound=Hashable)


def shrink(seed: int, budget: int = 400, **how: Any) -> tuple[Result, int]:
    """The shortest failing story found within `budget` plays, and how many were played.

    `how` is passed to `Simulation`. Raises ValueError when the seed does not break.
    """
    plays = 0

    def play(wishes: Sequence[str], hits: Sequence[Any]) -> Result | None:
        """What came out, if it still breaks; None when it does not, or when the budget is used up."""
        nonlocal plays
        if plays >= budget:
            return None
        plays += 1
        without = [wish for wish in first.wishes if wish not in set(wishes)]
        result = Simulation(seed, only=hits, without=without, **how).run()
        return result if result.broken else None

    first = Simulation(seed, **how).run()
    if not first.broken:
        raise ValueError(f"seed {seed} does not break")
    best = first
    while True:
        before = len(best.wishes) + len(best.hits)
        best = _fewer(best, best.wishes, lambda wishes, best: play(wishes, best.hits))
        best = _fewer(best, best.hits, lambda hits, best: play(best.wishes, hits))
        if len(best.wishes) + len(best.hits) >= before or plays >= budget:
            return best, plays


def _fewer(best: Result, items: Sequence[T], play: Callable[[Sequence[T], Result], Result | None]) -> Result:
    """Leave out ever smaller parts of `items` as long as it breaks (delta debugging, Zeller and Hildebrandt 2002)."""
    items = list(items)
    size = max(len(items) // 2, 1)
    while items:
        start = 0
        while start < len(items):
            rest = items[:start] + items[start + size :]
            result = play(rest, best)
            if result is None:
                start += size
            else:
                best, items = result, rest
        if size == 1:
            break
        size //= 2
    return best
