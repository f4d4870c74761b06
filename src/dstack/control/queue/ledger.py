"""The rows of one turn of the queue, as they will be after the units so far were accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dstack.control.kernel import Decision
from dstack.model.row import Ref, Row


class Ledger:
    """Units of one turn share one snapshot and are committed in order. A unit that touches a row which an earlier one
    changed must expect the version after that change; were the earlier one refused, the later conflicts, and both are
    decided anew."""

    def __init__(self, rows: Iterable[Row]):
        self._rows: dict[Ref, Row] = {row.ref: row for row in rows}

    def current(self, row: Row) -> Any:
        """The newest value of the row."""
        return self._rows[row.ref]

    def accept(self, unit: Decision) -> None:
        """Foresee the unit's acceptance."""
        for create in unit.creates:
            self._rows[create.row.ref] = create.row
        for change in unit.changes:
            row = self._rows[change.ref]
            self._rows[change.ref] = row.replace(**change.fields, version=change.version + 1)
