"""Backends on the wire: those that only we have are hidden, or appear as what released clients can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dstack.model.profile import BACKEND_NAMES

# Ours alone; `remote` and `dstack` are never configured.
_OURS = frozenset({"local", "sim"})
_KNOWN = frozenset(BACKEND_NAMES) - _OURS - {"remote", "dstack"}


def types(installed: Iterable[str]) -> list[str]:
    """The types that a project can configure and a released client can name."""
    return sorted(_KNOWN.intersection(installed))


def config(value: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration for who manages the project. Ours is legal as one without content; the truth is in `x_config`."""
    if value["type"] in _KNOWN:
        return dict(value)
    return {"type": "dstack", "base_backends": [], "x_config": dict(value)}


def infos(configs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The backends of a project, without credentials."""
    known = sorted((one for one in configs if one["type"] in _KNOWN), key=lambda one: one["type"])
    return [{"name": one["type"], "config": {k: v for k, v in one.items() if k != "creds"}} for one in known]
