"""The rows of one turn of the queue, as they will be after the units so far were accepted."""

from __future__ import annotations

from dstack.control.kernel import R2, Decision
from dstack.model.row import Ref, Row


class Ledger:
    """Units of one turn share one snapshot and are committed in order. A unit that touches a row which an earlier one
    changed must expect the version after that change. Were the earlier one refused, the store refuses every later unit
    that touches its rows, and all are decided anew."""

    def __init__(self) -> None:
        self._rows: dict[Ref, Row] = {}

    def current(self, row: R2) -> R2:
        """The newest value of a row of the snapshot, or of one that a unit made; from now on it is followed."""
        return self._rows.setdefault(row.ref, row)  # type: ignore[return-value]

    def accept(self, unit: Decision) -> None:
        """Foresee the unit's acceptance."""
        for create in unit.creates:
            self._rows[create.row.ref] = create.row
        for change in unit.changes:
            row = self._rows.get(change.ref)
            if row is not None:
                self._rows[change.ref] = row.replace(**change.fields, version=change.version + 1)
