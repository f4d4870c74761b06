"""Cron expressions: five fields in UTC, checked for their form."""

from __future__ import annotations

import re
from typing import Any

from dstack.values.grammar import Invalid, show

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
EXPECTED = "five fields: minute, hour, day of month, month, day of week"

_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WORDS = {3: {word: number for number, word in enumerate(_MONTHS, 1)}, 4: {word: n for n, word in enumerate(_DAYS)}}
_PART = re.compile(r"(?:\*|(\w{1,3})(?:-(\w{1,3}))?)(?:/(\d{1,2}))?", re.ASCII)


def parse_cron(value: Any) -> str | tuple[str, ...]:
    """One expression or a list of them, each with single blanks between its fields."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise Invalid(f"is empty, expected {EXPECTED}")
        return tuple(_expression(item, (index,)) for index, item in enumerate(value))
    return _expression(value, ())


def _expression(value: Any, at: tuple[int, ...]) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a cron expression, expected {EXPECTED}", at=at)
    fields = value.split()
    if len(fields) != len(FIELDS):
        raise Invalid(
            f"{show(value)} has {len(fields)} {'field' if len(fields) == 1 else 'fields'}, expected {EXPECTED}", at=at
        )
    for index, field in enumerate(fields):
        if not all(_legal(part, index) for part in field.split(",")):
            low, high = _LIMITS[index]
            raise Invalid(
                f"{show(field)} is not a {FIELDS[index]}, expected {low} to {high}, `*`, `a-b` or `*/n`", at=at
            )
    return " ".join(fields)


def _legal(part: str, index: int) -> bool:
    match = _PART.fullmatch(part)
    if match is None or match[3] == "0":
        return False
    ends = [_number(text, index) for text in (match[1], match[2]) if text is not None]
    low, high = _LIMITS[index]
    return all(end is not None and low <= end <= high for end in ends) and ends == sorted(ends, key=lambda n: n or 0)


def _number(text: str, index: int) -> int | None:
    return int(text) if text.isdigit() else _WORDS.get(index, {}).get(text.lower())
