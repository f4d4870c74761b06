"""Why machines were dropped: misses, and the funnel that adds them up."""

from __future__ import annotations

from dataclasses import dataclass

from dstack.model.job import DropReason, PlacementReport

# In the order in which a machine passes them.
STAGES = (
    "fleet",
    "instance",
    "blocks",
    "backend",
    "region",
    "zone",
    "instance_type",
    "spot",
    "runtime",
    "gpu",
    "cpu",
    "memory",
    "disk",
    "price",
    "availability",
    "network",
    "unfit",
    "unhealthy",
    "setup",
    "cordoned",
    "occupied",
    "unreachable",
    "create",
    "full",
    "busy",
)
_ORDER = {stage: i for i, stage in enumerate(STAGES)}
# Stages at which some number could be a little different; among equal stages the smaller distance is nearer.
_MEASURED = frozenset({"gpu", "cpu", "memory", "disk", "price"})


@dataclass(frozen=True, slots=True)
class Miss:
    """One machine's failure at one stage. `distance` compares misses of a stage; `nearest` is what the machine has."""

    stage: str
    reason: str
    distance: float = 1.0
    nearest: str | None = None
    hint: str | None = None

    def closer_than(self, other: Miss) -> bool:
        """It got further, or as far and missed by less; ties are broken by the words, so that order never matters."""
        return self._rank() < other._rank()

    def _rank(self) -> tuple:
        return (-_ORDER[self.stage], self.distance, self.reason, self.nearest or "")

    def of_one(self) -> str:
        """About a single machine: `disk: needs 100GB.., has 72GB`."""
        has = f", has {self.nearest}" if self.nearest and self.stage in _MEASURED else ""
        return f"{self.stage}: {self.reason}{has}"

    def sentence(self) -> str:
        """Of the nearest among many: `disk: needs 100GB.., best has 72GB`."""
        has = f", best has {self.nearest}" if self.nearest and self.stage in _MEASURED else ""
        has = f", offered is {self.nearest}" if self.nearest and not has else has
        return f"{self.stage}: {self.reason}{has}"


class Funnel:
    """Counts what was considered, what fits, and per stage how many dropped out and which came nearest."""

    def __init__(self) -> None:
        self.considered = 0
        self.fitting = 0
        self._counts: dict[str, int] = {}
        self._nearest: dict[str, Miss] = {}

    def fits(self, count: int = 1) -> None:
        self.considered += count
        self.fitting += count

    def drops(self, miss: Miss, count: int = 1) -> None:
        if count <= 0:
            return
        self.considered += count
        self._counts[miss.stage] = self._counts.get(miss.stage, 0) + count
        best = self._nearest.get(miss.stage)
        if best is None or miss.closer_than(best):
            self._nearest[miss.stage] = miss

    def best(self) -> Miss | None:
        """The miss of the machines that got furthest: the likeliest thing to change."""
        return max(self._nearest.values(), key=lambda m: _ORDER[m.stage], default=None)

    def report(self, at: float) -> PlacementReport:
        drops = tuple(
            DropReason(stage=m.stage, reason=m.reason, count=self._counts[s], nearest=m.nearest, hint=m.hint)
            for s, m in sorted(self._nearest.items(), key=lambda item: _ORDER[item[0]])
        )
        return PlacementReport(at=at, considered=self.considered, fitting=self.fitting, drops=drops)
