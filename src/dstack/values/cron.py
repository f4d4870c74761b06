"""Cron expressions: five fields in UTC, their form, and the next instant that they name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError

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


def next_instant(written: str | Iterable[str], after: float) -> float:
    """The first instant after `after` that one of the legal expressions names; seconds since the epoch."""
    found = (_next(one, after) for one in ([written] if isinstance(written, str) else written))
    return min(at for at in found if at is not None)


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
            raise Invalid(f"{show(field)} is not a {FIELDS[index]}, expected {_expected(index)}, `a-b` or `*/n`", at=at)
    if _next(" ".join(fields), 0.0) is None:
        raise Invalid(f"{show(value)} never comes, expected a day that its month has", at=at)
    return " ".join(fields)


def _expected(index: int) -> str:
    """What one field may be: 0 to 6, mon to sun, or all of them."""
    low, high = _LIMITS[index]
    words = list(_WORDS.get(index, ()))
    return f"{low} to {high}, " + (f"{words[0]} to {words[-1]}, " if words else "") + "`*`"


def _next(expression: str, after: float) -> float | None:
    """None: there is no such day."""
    fields = expression.split()
    fields[4] = ",".join(_day_of_week(part) for part in fields[4].split(","))
    try:
        return next(CronSim(" ".join(fields), datetime.fromtimestamp(after, UTC))).timestamp()
    except (CronSimError, StopIteration):
        return None


def _day_of_week(part: str) -> str:
    """As the library counts them: ours begin with Monday as 0, its with Monday as 1, and Sunday is 7."""
    match = _PART.fullmatch(part)
    assert match is not None  # it was legal
    if match[1] is None:
        return "1-7/" + match[3] if match[3] else "*"
    first, last = _number(match[1], 4), _number(match[2], 4) if match[2] else None
    assert first is not None
    if last is None:
        last = 6 if match[3] else first
    return f"{first + 1}-{last + 1}/{match[3] or 1}" if last > first else str(first + 1)


def _legal(part: str, index: int) -> bool:
    match = _PART.fullmatch(part)
    if match is None or match[3] == "0":
        return False
    ends = [_number(text, index) for text in (match[1], match[2]) if text is not None]
    low, high = _LIMITS[index]
    return all(end is not None and low <= end <= high for end in ends) and ends == sorted(ends, key=lambda n: n or 0)


def _number(text: str, index: int) -> int | None:
    return int(text) if text.isdigit() else _WORDS.get(index, {}).get(text.lower())
