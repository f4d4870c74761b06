"""The pieces of a log as a person wants them: as they are, or as lines that are filtered and stamped."""

from __future__ import annotations

import heapq
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from dstack.api.logs import LogPiece
from dstack.cli.terminal import put_bytes, say
from dstack.errors import UsageError
from dstack.values.duration import parse_duration
from dstack.values.grammar import Invalid

_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


@dataclass(frozen=True)
class Filter:
    """What is shown and how; `since` in seconds since the epoch, `job` is put before each line."""

    since: float | None = None
    grep: re.Pattern[bytes] | None = None
    timestamps: bool = False
    json: bool = False
    job: str | None = None

    @classmethod
    def of(cls, since: str | None, grep: str | None, timestamps: bool, as_json: bool) -> Filter:
        """From the words of the command line; raises UsageError for those that mean nothing."""
        try:
            pattern = re.compile(grep.encode()) if grep is not None else None
        except re.error as error:
            raise UsageError(f"--grep {grep}: not a regular expression: {error}") from None
        return cls(parse_since(since, time.time()) if since else None, pattern, timestamps, as_json)

    @property
    def raw(self) -> bool:
        return self.grep is None and not self.timestamps and not self.json and self.job is None

    def of_job(self, label: str) -> Filter:
        """The same for one of several jobs."""
        return replace(self, job=label)

    @property
    def since_text(self) -> str | None:
        """The instant as the API writes it."""
        return None if self.since is None else _iso(self.since)


def parse_since(text: str, now: float) -> float:
    """A duration before now, or an instant in RFC 3339 with its zone."""
    try:
        return now - parse_duration(text)
    except Invalid:
        pass  # not a duration: an instant, or nothing
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(
            f"Invalid datetime format: {text}",
            hint="expected a duration (`10m`) or an instant (`2026-01-31T12:00:00Z`)",
        )
    return moment.timestamp()


def show_log(pieces: Iterator[LogPiece], chosen: Filter) -> None:
    """Write the log to stdout."""
    if chosen.raw:
        for piece in pieces:
            if _new(piece.at, chosen):
                put_bytes(piece.data)
            if piece.lost:
                say(f"{piece.lost} bytes of the log are missing")
        return
    for at, line in _lines(pieces):
        _show(at, line, chosen)


def show_logs(logs: Iterable[tuple[str, Iterator[LogPiece]]], chosen: Filter) -> None:
    """Write several logs, each with the label of its job, in the order of time; each stays in its own order."""
    for one in heapq.merge(*(_in_order(label, pieces) for label, pieces in logs), key=lambda one: one.key):
        _show(one.at, one.line, chosen.of_job(one.label))


class _Line(NamedTuple):
    """`key` is never less than that of the line before: a clock that was set back does not hold others up."""

    key: float
    at: float | None
    line: bytes
    label: str


def _in_order(label: str, pieces: Iterator[LogPiece]) -> Iterator[_Line]:
    key = 0.0
    for at, line in _lines(pieces):
        key = max(key, at or 0.0)
        yield _Line(key, at, line, label)


def _show(at: float | None, line: bytes, chosen: Filter) -> None:
    plain = _ANSI.sub(b"", line).rstrip(b"\r\n")
    if _new(at, chosen) and (chosen.grep is None or chosen.grep.search(plain)):
        put_bytes(_formed(at, line, plain, chosen))


def _lines(pieces: Iterator[LogPiece]) -> Iterator[tuple[float | None, bytes]]:
    """Whole lines, each with the time of its first byte."""
    rest, began = b"", None
    for piece in pieces:
        for line in piece.data.splitlines(keepends=True) if b"\r" not in piece.data else _split(piece.data):
            if not rest:
                began = piece.at
            rest += line
            if rest.endswith(b"\n"):
                yield began, rest
                rest = b""
        if piece.lost:
            say(f"{piece.lost} bytes of the log are missing")
    if rest:
        yield began, rest + b"\n"


def _split(data: bytes) -> list[bytes]:
    """At line feeds only: a carriage return redraws a line, it does not end it."""
    *whole, last = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([last] if last else [])


def _formed(at: float | None, line: bytes, plain: bytes, chosen: Filter) -> bytes:
    if chosen.json:
        item = {"timestamp": _iso(at) if at is not None else None, "message": plain.decode("utf-8", "replace")}
        item |= {"job": chosen.job} if chosen.job is not None else {}
        return json.dumps(item, ensure_ascii=False).encode() + b"\n"
    if chosen.job is not None:
        line = f"[{chosen.job}] ".encode() + line
    if chosen.timestamps and at is not None:
        return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3].encode() + b" " + line
    return line


def _new(at: float | None, chosen: Filter) -> bool:
    return chosen.since is None or at is None or at >= chosen.since


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
