"""References in text, `${{ namespace.name }}`: finding them and putting values in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dstack.values.grammar import Invalid, show

OPENING, CLOSING = "${{", "}}"
ESCAPED_OPENING = "$${{"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


class _Piece(NamedTuple):
    """A piece of text: as it was `written`, and the name when it is a reference."""

    written: str
    name: str | None = None


def is_plain_reference(name: str) -> bool:
    """`namespace.name`: one dot, letters, digits, `_` and `-`, no digit first."""
    return _NAME.fullmatch(name) is not None


def interpolate(
    text: str,
    resolve: Callable[[str], str | None],
    *,
    keep: Callable[[str], bool] | None = None,
    legal: Callable[[str], bool] = is_plain_reference,
) -> str:
    """The text with each reference replaced by `resolve(name)`; None from it means that there is no such variable.

    `$${{` stands for a literal `${{`; any other `$$` is left as it is, because shells have a meaning for it.
    References for which `keep` says yes belong to a later pass: they, and then all escapes, stay as written.
    """
    missing: list[str] = []
    parts: list[str] = []
    for piece in _pieces(text, legal):
        if piece.name is None:
            escape = piece.written == ESCAPED_OPENING and keep is None
            parts.append(OPENING if escape else piece.written)
        elif keep is not None and keep(piece.name):
            parts.append(piece.written)
        elif (value := resolve(piece.name)) is None:
            missing.append(piece.name)
        else:
            parts.append(value)
    if missing:
        raise Invalid(f"Failed to interpolate due to missing vars: {list(dict.fromkeys(missing))}")
    return "".join(parts)


def references(text: str, *, legal: Callable[[str], bool] = is_plain_reference) -> list[str]:
    """The names referred to, in order, each once."""
    return list(dict.fromkeys(piece.name for piece in _pieces(text, legal) if piece.name is not None))


def _pieces(text: str, legal: Callable[[str], bool]) -> Iterator[_Piece]:
    position = 0
    while (start := text.find(OPENING, position)) >= 0:
        if start > position and text[start - 1] == "$":
            yield _Piece(text[position : start - 1])
            yield _Piece(ESCAPED_OPENING)
            position = start + len(OPENING)
            continue
        yield _Piece(text[position:start])
        end = text.find(CLOSING, start)
        if end < 0:
            raise Invalid(f"No pattern closing: {show(text[start:]).strip('`')}")
        name = text[start + len(OPENING) : end].strip()
        if not legal(name):
            raise Invalid(f"Illegal reference name: {show(name).strip('`')}")
        position = end + len(CLOSING)
        yield _Piece(text[start:position], name)
    yield _Piece(text[position:])
