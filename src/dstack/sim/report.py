"""What a person reads after a batch of seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dstack.sim.simulation import Result

STORY_LINES = 40


def short(results: Sequence[Result], wall_s: float) -> str:
    """A few lines over all seeds, and the end of the story of each that broke."""
    faults, statuses = Counter[str](), Counter[str]()
    for result in results:
        faults.update(result.faults)
        statuses.update(result.statuses)
    decisions = sum(r.decisions for r in results)
    broken = [r for r in results if r.broken]
    lines = [
        f"seeds       {len(results)}, broken {len(broken)}",
        f"decisions   {decisions} ({decisions / max(wall_s, 1e-9):.0f}/s)",
        f"faults      {sum(faults.values())}: {_counts(faults)}",
        f"runs        {sum(statuses.values())}: {_counts(statuses)}",
        f"machines    {sum(r.machines for r in results)}",
        f"digest      {results[0].digest}" if len(results) == 1 else f"wall        {wall_s:.1f} s",
    ]
    for result in broken:
        lines += ["", story(result)]
    return "\n".join(lines)


def story(result: Result, lines: int = STORY_LINES) -> str:
    """The seed, what broke, and the last decisions before."""
    head = f"seed {result.seed}: {'; '.join(result.broken) or 'all held'}"
    return "\n".join([head, *(f"  {line}" for line in result.story[-lines:])])


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counter.most_common()) or "none"
