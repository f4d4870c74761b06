"""What every small grammar shares: the error it raises and how a value is shown in it."""

from __future__ import annotations

from typing import Any


class Invalid(ValueError):
    """A value that its grammar refuses; `at` is the path to the wrong part inside the value (keys and indices)."""

    def __init__(self, message: str, *, at: tuple[str | int, ...] = ()):
        super().__init__(message)
        self.at = at


def show(value: Any, limit: int = 60) -> str:
    """A value as a person would write it, on one line, in backticks, cut at `limit` characters."""
    text = _plain(value).encode("utf-8", "replace").decode("utf-8").replace("\n", "\\n").replace("\r", "\\r")
    text = "".join(char if char.isprintable() else "?" for char in text)
    return f"`{text if len(text) <= limit else text[: limit - 3] + '...'}`"


def kind(value: Any) -> str:
    """What a value is, in words for people (`a list`, `a boolean`, ...)."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return "nothing" if value is None else names.get(type(value), "something else")


def is_number(value: Any) -> bool:
    """A real number: booleans, which Python counts as integers, are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[...]" if value else "[]"
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"{'-' if value < 0 else ''}a number of {value.bit_length() * 30103 // 100000 + 1} digits"
    return str(value)
