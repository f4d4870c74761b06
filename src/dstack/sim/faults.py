"""What can go wrong, by name and rate, from one seeded source of chance."""

from __future__ import annotations

import random
from collections.abc import Iterable

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
}
ALL = tuple(RATES)


class Faults:
    """`hit(name)` asks chance; nothing is hit after `until`. `count` tells how often each was."""

    def __init__(self, seed: int, names: Iterable[str] = ALL, until: float = float("inf")):
        self.random = random.Random(seed)
        self.until = until
        self.count: dict[str, int] = dict.fromkeys(ALL, 0)
        self._names = frozenset(names)
        unknown = self._names - set(ALL)
        if unknown:
            raise ValueError(f"no fault is called {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")

    def hit(self, name: str, now: float) -> bool:
        if name not in self._names or now >= self.until or self.random.random() >= RATES[name]:
            return False
        self.count[name] += 1
        return True

    def between(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)
