"""The server's log: each line with the ids of what it is about, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

FORMATS = ("text", "json")
_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039  never changed in place
_TEXT = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"


@contextmanager
def about(**ids: str | None) -> Iterator[None]:
    """Lines that are logged within, and by tasks that are begun within, carry these ids: run, job, instance, act."""
    known = {name: id_ for name, id_ in ids.items() if id_}
    token = _ABOUT.set({**_ABOUT.get(), **known})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def note(**ids: str | None) -> None:
    """More ids, for the rest of this task."""
    _ABOUT.set({**_ABOUT.get(), **{name: id_ for name, id_ in ids.items() if id_}})


class Text(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO    dstack.server  words  [job=... act=...]`."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        line = super().formatMessage(record)
        ids = " ".join(f"{name}={id_}" for name, id_ in _ids(record).items())
        return f"{line}  [{ids}]" if ids else line


class Json(logging.Formatter):
    """One object a line: `at`, `level`, `logger`, `message`, the ids, and `error` where something was raised."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def to_stderr(level: str, form: str) -> None:
    """Log to stderr from now on. `form` is one of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _ids(record: logging.LogRecord) -> Mapping[str, str]:
    return getattr(record, "about", None) or _ABOUT.get()
