"""The nearest known word for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that a person most likely meant, or None; case and `-`/`_` do not count."""
    plain = {_plain(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(_plain(word)[:100], list(plain), n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The question to print, or None where nothing is near."""
    candidate = nearest(word, known)
    return f"did you mean `{candidate}`?" if candidate else None


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
