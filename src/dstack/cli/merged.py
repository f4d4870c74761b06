"""Several logs at once, line by line in the order in which they come, each line with its job before it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dstack.api.logs import LogPiece
from dstack.cli.loglines import Filter, show_log


class Prefixed:
    """Puts `[job 1] ` before each line of one job; a line that is not complete yet waits for its rest."""

    def __init__(self, label: str):
        self._prefix = f"[{label}] ".encode()
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        """The lines that `data` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        return b"".join(self._prefix + line + b"\n" for line in whole)

    def end(self) -> bytes:
        """The last line, if it has no end."""
        rest, self._rest = self._rest, b""
        return self._prefix + rest + b"\n" if rest else b""


def merged(logs: Sequence[tuple[str, Iterable[LogPiece]]], chosen: Filter) -> None:
    """Show all logs to their end, each read by a thread of its own. What one fails with fails here."""
    arrived: queue.Queue[tuple[int, LogPiece | Exception | None]] = queue.Queue(maxsize=1000)

    def read(number: int, pieces: Iterable[LogPiece]) -> None:
        try:
            for piece in pieces:
                arrived.put((number, piece))
            arrived.put((number, None))
        except Exception as error:
            arrived.put((number, error))

    for number, (_, pieces) in enumerate(logs):
        threading.Thread(target=read, args=(number, pieces), daemon=True).start()
    waiting: list[list[LogPiece]] = [[] for _ in logs]
    open_logs = len(logs)
    while open_logs:
        number, item = arrived.get()
        if isinstance(item, Exception):
            raise item
        open_logs -= item is None
        if item is not None:
            waiting[number].append(item)
        if ready := _whole_lines(waiting[number], ended=item is None):
            show_log(iter(ready), chosen.of_job(logs[number][0]))


def _whole_lines(waiting: list[LogPiece], *, ended: bool) -> list[LogPiece]:
    """Take from `waiting` what ends with a line; the rest stays, unless the log has ended."""
    last = next((i for i in reversed(range(len(waiting))) if b"\n" in waiting[i].data), None)
    if ended or last is None:
        taken = waiting[:] if ended else []
        del waiting[: len(taken)]
        return taken
    piece = waiting[last]
    cut = piece.data.rfind(b"\n") + 1
    taken = [*waiting[:last], replace(piece, data=piece.data[:cut])]
    rest = replace(piece, data=piece.data[cut:], lost=0)
    waiting[: last + 1] = [rest] if rest.data else []
    return taken
