"""Small values on the wire: instants, backends, and domain models as plain data."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

# Ours alone: a client that does not know a backend's name would fail for the whole project.
_SHOWN_AS_REMOTE = ("local", "sim", "ssh")


def instant(at: float | None) -> str | None:
    """ISO-8601 in UTC with `Z`, to the microsecond."""
    return None if at is None else stamp(at)


# A page of runs holds hundreds, most of them again and again.
@lru_cache(maxsize=16_384)
def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(at: datetime | None) -> float | None:
    """The instant of a request; one without a zone is UTC."""
    if at is None:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def backend(name: str) -> str:
    """The backend as the public API knows it."""
    return "remote" if name in _SHOWN_AS_REMOTE else name


def backends(names: Any) -> list[str] | None:
    return None if names is None else list(dict.fromkeys(backend(name) for name in names))


def plain(value: Any) -> Any:
    """A domain model as JSON-ready data, without the fields that the public API does not have."""
    if isinstance(value, BaseModel):
        extra = getattr(type(value), "WIRE_EXTRA", ())
        return {name: plain(getattr(value, name)) for name in type(value).model_fields if name not in extra}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, frozenset, set)):
        return [plain(item) for item in value]
    return value
