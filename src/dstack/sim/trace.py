"""The story of a simulation: one line a decision with its cause, and a hash that is the same for the same seed."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence

from dstack.control.kernel import Decision, Turn
from dstack.control.wording import target
from dstack.sim.world import Claim, Committed, World

KEPT = 2000


class Trace:
    """`lines` are the newest KEPT ones; `digest` covers all."""

    def __init__(self, *, keep: bool = True) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT)
        self.decisions = 0
        self._keep = keep
        self._hash = hashlib.blake2b(digest_size=16)

    def digest(self) -> str:
        return self._hash.hexdigest()

    def note(self, now: float, text: str) -> None:
        line = f"{now:14.3f}  {text}"
        self._hash.update(line.encode())
        if self._keep:
            self.lines.append(line)

    def commit(self, now: float, world: World, batch: Sequence[tuple[Claim, Turn]], result: Committed) -> None:
        """Say what was decided. Decisions that changed nothing go into the hash, not into the story."""
        self.decisions += len(result.accepted)
        for decision in result.accepted:
            if decision.empty:
                self._hash.update(f"{now:.3f}{decision.ref.id}{decision.wake_at}".encode())
            else:
                self.note(now, self._story(world, decision, result.causes.get(decision.ref)))
        for decision in result.refused:
            self.note(now, f"{decision.ref.kind} {decision.ref.id[:8]} conflicts, decided anew")

    @staticmethod
    def _story(world: World, decision: Decision, causes: list[str] | None) -> str:
        row = world.rows[decision.ref]
        said = "; ".join(e.message.replace(" status changed", ":") for e in decision.events)
        acts = " ".join(f"+{a.verb}" for a in decision.acts) + " ".join(f" -{s.verb}" for s in decision.settles)
        cause = ", ".join(causes) if causes else "due"
        what = said or ", ".join(sorted({k for c in decision.changes for k in c.fields})) or "wakes others"
        return f"{row.kind} {target(row).name}: {what} {acts} <- {cause}".rstrip()
