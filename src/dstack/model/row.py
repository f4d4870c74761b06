"""What every resource that the engine drives has in common: an id, a version, a status and a kind.

The columns by which the engine finds and claims rows (`due_at`, `wake_seq`, `claimed_by`, `claim_until`, `fence`)
belong to the store, not to these types: a decision never sees them.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict


class Ref(NamedTuple):
    """The address of one row: its kind (the table) and id."""

    kind: str
    id: str


class Row(BaseModel):
    """One versioned row. `version` grows by one with every committed change of any other field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    # Legal next statuses by status; the keys are all statuses, an empty set marks a terminal one.
    transitions: ClassVar[dict[str, frozenset[str]]]

    id: str
    project_id: str
    version: int = 1
    status: str
    created_at: float

    @property
    def ref(self) -> Ref:
        return Ref(self.kind, self.id)

    @property
    def terminal(self) -> bool:
        return not self.transitions[self.status]

    @classmethod
    def terminal_statuses(cls) -> frozenset[str]:
        return frozenset(str(s) for s, following in cls.transitions.items() if not following)

    def replace(self, **fields: Any) -> Any:
        """A copy with other values; unchecked here, validated when it is committed."""
        return self.model_copy(update=fields)


def table(rows: dict[Any, set[Any]]) -> dict[str, frozenset[str]]:
    """A literal transition table as `Row.transitions` wants it."""
    return {s: frozenset(following) for s, following in rows.items()}
