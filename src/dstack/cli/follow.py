"""The two threads behind an attached run: each turns one conversation with the server into events of a queue."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Any

from dstack.api.client import Client
from dstack.api.logs import LogPiece
from dstack.errors import DstackError, ResourceNotFound, ServerUnreachable

Json = dict[str, Any]

WATCH_S = 30.0
PATIENCE_S = 300.0
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 5.0


@dataclass(frozen=True)
class Changed:
    """The run as it is now; None when it is gone."""

    run: Json | None


@dataclass(frozen=True)
class Away:
    """The server does not answer; it is asked again for `patience_s` seconds."""

    error: DstackError
    patience_s: float


@dataclass(frozen=True)
class Back:
    """The server answers again."""


@dataclass(frozen=True)
class Broken:
    """There is no use in going on."""

    error: Exception


@dataclass(frozen=True)
class Logged:
    """A piece of the log of one submission."""

    submission_id: str
    piece: LogPiece


@dataclass(frozen=True)
class LogEnd:
    submission_id: str


Events = queue.Queue[Any]


def watch_run(client: Client, run_id: str, events: Events, stop: threading.Event) -> None:
    """Put `Changed` for each change, to the end of the run; tell when the server goes away and comes back."""
    seen: int | None = None
    away_s: float | None = None
    delay_s = FIRST_DELAY_S
    while not stop.is_set():
        try:
            run, seen = client.runs.watch(id=run_id, seen=seen, wait_s=WATCH_S)
        except ServerUnreachable as error:
            if away_s is None:
                events.put(Away(error, PATIENCE_S))
            elif away_s >= PATIENCE_S:
                return events.put(Broken(error))
            stop.wait(delay_s)
            away_s, delay_s, seen = (away_s or 0.0) + delay_s, min(delay_s * 2, LONGEST_DELAY_S), None
            continue
        except ResourceNotFound:
            return events.put(Changed(None))
        except DstackError as error:
            return events.put(Broken(error))
        if away_s is not None:
            events.put(Back())
            away_s, delay_s = None, FIRST_DELAY_S
        events.put(Changed(run))
        if run is None or run["status"] in ("terminated", "failed", "done"):
            return


def follow_log(client: Client, submission_id: str, events: Events, stop: threading.Event) -> None:
    """Put `Logged` for each piece of the log, then `LogEnd`. That the server is away is told by the other thread."""
    try:
        for piece in client.logs.follow(submission_id, patience_s=PATIENCE_S, sleep=stop.wait):
            events.put(Logged(submission_id, piece))
            if stop.is_set():
                return
    except ServerUnreachable:
        pass  # the other thread has given up too, or the end of the run is known
    except DstackError as error:
        events.put(Broken(error))
    events.put(LogEnd(submission_id))
