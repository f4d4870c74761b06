"""What can go wrong, by name and rate, from one seeded source of chance."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable

# Chance per opportunity (a call, a commit, a minute of a machine's life).
RATES: dict[str, float] = {
    "slow-cloud": 0.15,  # creating takes many minutes
    "no-capacity": 0.25,
    "refusal": 0.05,  # quota, permission
    "lost-result": 0.15,  # the machine is made, the answer is lost
    "cloud-down": 0.15,  # the call fails
    "slow-termination": 0.5,  # still terminating, ask again
    "lying-cloud": 0.2,  # a living machine is said to be gone
    "preemption": 0.004,
    "reboot": 0.003,
    "deaf-agent": 0.01,
    "short-deafness": 0.02,
    "double-delivery": 0.2,
    "late-observation": 0.1,
    "crash": 0.01,  # between any two verbs
    "slow-commit": 0.2,  # others act between load and commit
    "frozen-server": 0.01,  # it comes back after its claims have run out
    "clock-jump": 0.005,  # a server's clock is set forward or back by minutes
    "forgetful-list": 0.3,  # the list of machines lacks some
    "foreign-machine": 0.01,  # one under our tag that no row knows: another server's, or newer than a restored backup
    "reused-address": 0.5,  # the address of a machine that is gone is given to a new one
}
ALL = tuple(RATES)

Hit = tuple[str, int]  # a fault and the number of the opportunity that it took


class Faults:
    """`hit(name)` asks chance; nothing is hit after `until`. `count` tells how often each was, `hits` which ones.

    Each fault has a source of chance of its own, so that one opportunity more or less changes nothing about the others.
    With `only`, those hits happen and no others: a story is told again with fewer faults.
    """

    def __init__(
        self, seed: int, names: Iterable[str] = ALL, until: float = float("inf"), only: Collection[Hit] | None = None
    ):
        self.until = until
        self.count: dict[str, int] = dict.fromkeys(ALL, 0)
        self.hits: list[Hit] = []
        self._names = frozenset(names)
        unknown = self._names - set(ALL)
        if unknown:
            raise ValueError(f"no fault is called {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
        self._sources = {name: random.Random(f"{seed} {name}") for name in ALL}
        self._sizes = random.Random(f"{seed} sizes")
        self._asked: dict[str, int] = dict.fromkeys(ALL, 0)
        self._only = None if only is None else frozenset(only)

    def hit(self, name: str, now: float) -> bool:
        if name not in self._names or now >= self.until:
            return False
        self._asked[name] += 1
        one = (name, self._asked[name])
        if self._sources[name].random() >= RATES[name] or (self._only is not None and one not in self._only):
            return False
        self.count[name] += 1
        self.hits.append(one)
        return True

    def between(self, low: float, high: float) -> float:
        return self._sizes.uniform(low, high)
