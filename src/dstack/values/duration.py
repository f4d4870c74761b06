"""Durations: `90`, `90s`, `5m`, `1h30m`, `2d`, `1w` to seconds and back."""

from __future__ import annotations

import re
from typing import Any, Literal

from dstack.values.grammar import Invalid, show

EXPECTED = "a duration such as `90s`, `5m`, `1h30m` or `2d`"
MAX_SECONDS = 100 * 366 * 86400
NEVER = -1

_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = r"(?:(\d{{1,12}}){})?"
_COMPOUND = re.compile("".join(_PART.format(unit) for unit in _SECONDS), re.ASCII)


def parse_duration(value: Any) -> int:
    """Seconds of a whole number, of digits, or of parts with units, the largest unit first (`1h30m`)."""
    if isinstance(value, bool):
        raise Invalid(f"{show(value)} is not a duration, expected {EXPECTED}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return _checked(value, value)
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a duration, expected {EXPECTED}")
    text = re.sub(r"\s+", "", value).lower()
    if re.fullmatch(r"-?\d{1,12}s?", text, re.ASCII):
        return _checked(int(text.rstrip("s")), value)
    match = _COMPOUND.fullmatch(text)
    if match is None or not text:
        raise Invalid(f"{show(value)} is not a duration, expected {EXPECTED}")
    return _checked(
        sum(int(count or 0) * _SECONDS[unit] for count, unit in zip(match.groups(), _SECONDS, strict=True)), value
    )


def parse_off_duration(value: Any) -> int | Literal["off"] | None:
    """As `parse_duration`; `off` and false mean without limit, true and null the default (None)."""
    if value is None or value is True:
        return None
    return "off" if _is_off(value) else _expecting_off(value)


def parse_idle_duration(value: Any) -> int | None:
    """As `parse_duration`; `off`, false and negative numbers mean never (-1), true and null the default (None)."""
    if value is None or value is True:
        return None
    if _is_off(value):
        return NEVER
    if isinstance(value, int) and value < 0:
        return NEVER
    if isinstance(value, str) and re.fullmatch(r"-\d{1,12}s?", value.strip(), re.ASCII):
        return NEVER
    return _expecting_off(value)


def format_duration(seconds: int) -> str:
    """The canonical text, largest unit first: `1h30m`, `0s`, `8d` as `1w1d`; `off` below zero."""
    if seconds < 0:
        return "off"
    parts: list[str] = []
    for unit, length in _SECONDS.items():
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _is_off(value: Any) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "off")


def _expecting_off(value: Any) -> int:
    try:
        return parse_duration(value)
    except Invalid as error:
        raise Invalid(f"{error}, or `off`") from None


def _checked(seconds: int, value: Any) -> int:
    if seconds < 0:
        raise Invalid(f"{show(value)} is negative, expected {EXPECTED}")
    if seconds > MAX_SECONDS:
        raise Invalid(f"{show(value)} is longer than 100 years, expected {EXPECTED}")
    return seconds
