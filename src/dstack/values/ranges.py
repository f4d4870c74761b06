"""Ranges of anything that has its own grammar: `a..b`, `a..`, `..b`, `..`, a single value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from dstack.values.grammar import Invalid, is_number, show

T = TypeVar("T", int, float)
Single = Literal["exact", "at-least"]

SEPARATOR = ".."


class Bounds(NamedTuple, Generic[T]):
    """Both ends belong to the range; None is open."""

    min: T | None
    max: T | None


def parse_range(
    value: Any, item: Callable[[Any], T], *, single: Single = "exact", empty: bool = False, noun: str = "range"
) -> Bounds[T]:
    """The bounds of a number or of text; `single` says what one value alone means, `empty` whether `..` is legal."""
    if is_number(value):
        return _alone(item(value), single)
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a {noun}, expected a value, `a..b`, `a..` or `..b`")
    low, separator, high = value.partition(SEPARATOR)
    if not separator:
        return _alone(item(value.strip()), single)
    if not low.strip() and not high.strip() and not empty:
        raise Invalid(f"{show(value)} is an empty {noun}, expected `a..b`, `a..` or `..b`")
    bounds = Bounds(
        item(low.strip()) if low.strip() else None,
        item(high.strip()) if high.strip() else None,
    )
    check_order(bounds.min, bounds.max, value)
    return bounds


def check_order(low: float | None, high: float | None, written: Any) -> None:
    """Refuse a range whose lower bound is above its upper bound."""
    if low is not None and high is not None and low > high:
        raise Invalid(f"{show(written)} is the wrong way round, expected the lower bound first")


def parse_int(value: Any) -> int:
    """A whole number that is not negative and fits where it must be stored."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 12:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10**9:
        raise Invalid(f"{show(value)} is not a whole number from 0 up")
    return value


def format_range(low: T | None, high: T | None, item: Callable[[T], str] = str, *, single: Single = "exact") -> str:
    """The canonical text, which `parse_range` with the same `single` reads back."""
    if low is not None and low == high and single == "exact":
        return item(low)
    return f"{item(low) if low is not None else ''}{SEPARATOR}{item(high) if high is not None else ''}"


def _alone(value: T, single: Single) -> Bounds[T]:
    return Bounds(value, value if single == "exact" else None)
