"""Tables without borders: aligned columns, a left pad of one space, wrapped where the screen is narrow."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence

GAP = "  "
PAD = " "

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """The table as text. Wider than `width`, it loses empty columns, then the widest are wrapped."""
    if not rows:
        return PAD + GAP.join(headers)
    widths = _widths(headers, rows)
    if width is not None and sum(widths) + len(PAD) + len(GAP) * (len(widths) - 1) > width:
        kept = [i for i in range(len(headers)) if any(row[i] for row in rows)]
        headers, rows = [headers[i] for i in kept], [[row[i] for i in kept] for row in rows]
        widths = _widths(headers, rows)
        least = [max(_longest_word(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
        _narrow(widths, least, width - len(PAD) - len(GAP) * (len(widths) - 1))
    return "\n".join(line for row in (headers, *rows) for line in _lines(row, widths))


def _widths(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(cells(row[i]) for row in (headers, *rows)) for i in range(len(headers))]


def properties(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, one under the other."""
    column = max(len(name) for name, _ in rows)
    return "\n".join(f"{PAD}{name:<{column}}{GAP}{value}".rstrip() for name, value in rows)


def cells(text: str) -> int:
    """How many columns of a terminal the text takes; colours take none."""
    plain = _ANSI.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(_cell(char) for char in plain)


def _cell(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _longest_word(text: str) -> int:
    if "\x1b" in text:
        return cells(text)  # coloured text is not wrapped
    return max((cells(word) + 1 for word in text.split()), default=0)  # and the indent of the lines that go on


def _narrow(widths: list[int], least: list[int], room: int) -> None:
    """Take from the widest column first, but break no word: a screen as narrow as that has to wrap by itself."""
    while sum(widths) > room:
        excess = [i for i in range(len(widths)) if widths[i] > least[i]]
        if not excess:
            return
        widest = max(excess, key=lambda i: widths[i])
        widths[widest] -= 1


def _lines(row: Sequence[str], widths: list[int]) -> list[str]:
    columns = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
    height = max(len(column) for column in columns)
    return [
        (
            PAD
            + GAP.join(
                _padded(column[i] if i < len(column) else "", width)
                for column, width in zip(columns, widths, strict=True)
            )
        ).rstrip()
        for i in range(height)
    ]


def _wrapped(text: str, width: int) -> list[str]:
    if cells(text) <= width or "\x1b" in text:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=" ", break_on_hyphens=False, break_long_words=False) or [""]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))
