"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """`ok` False is something that a person should look at; `details` are lines of their own."""

    name: str
    ok: bool
    message: str
    details: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


def ago(seconds: float) -> str:
    """`5m`, `3h`, `2d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(max(seconds, 0))}s"


def counted(number: int, one: str, many: str) -> str:
    """`1 log is`, `2 logs are`."""
    return f"{number} {one if number == 1 else many}"


def some(lines: list[str], limit: int = 10) -> tuple[str, ...]:
    """The first of many lines, and how many more there are."""
    more = [f"... and {len(lines) - limit} more"] if len(lines) > limit else []
    return (*lines[:limit], *more)
