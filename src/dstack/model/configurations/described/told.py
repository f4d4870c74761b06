"""The shape of what is told of a field."""

from __future__ import annotations

from typing import NamedTuple


class Told(NamedTuple):
    """One line about a field, and forms in which it may be written, each as YAML; a test reads them all."""

    text: str
    forms: tuple[str, ...] = ()


def told(text: str, *forms: str) -> Told:
    """`text` has no full stop at its end."""
    return Told(text, forms)
