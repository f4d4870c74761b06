"""Where a document is, and how what is wrong with it becomes one error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from dstack.errors import ConfigurationError
from dstack.model.configurations.document import Path, Positions
from dstack.model.configurations.messages import Problem, field_text


class Place:
    """A file with the positions of its parts, or only words for where data came from."""

    def __init__(self, where: str, positions: Positions | None = None):
        self.where, self.positions = where, positions

    def prefix(self, path: Path, *, key: bool = False) -> str:
        """`FILE:LINE:COL: ` of a part, or the words."""
        if self.positions is None:
            return f"{self.where}: " if self.where else ""
        position = self.positions.of(path, key=key)
        return f"{self.where}:{position.line}:{position.column}: "

    def refuse(self, *found: Problem, root: str = "configuration") -> NoReturn:
        """Raise ConfigurationError with a line for each problem, in the order of the document."""
        ordered: Sequence[Problem] = sorted(found, key=self._order) if self.positions else found
        lines = [
            f"{self.prefix(item.path, key=item.about_key)}{field_text(item.path) or root}: {item.message}"
            for item in ordered
        ]
        hints = {item.path: item.hint for item in ordered if item.hint}
        several = len(ordered) > 1
        hint = "\n".join(f"{field_text(path)}: {text}" if several else text for path, text in hints.items())
        raise ConfigurationError("\n".join(lines), hint=hint or None)

    def _order(self, item: Problem) -> tuple[int, int]:
        return self.positions.of(item.path, key=item.about_key) if self.positions else (0, 0)
