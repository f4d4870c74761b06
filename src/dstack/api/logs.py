"""Logs of jobs: what is stored, and what comes, each byte once."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dstack.api.transport import Transport
from dstack.errors import DstackError, ServerUnreachable

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0


@dataclass(frozen=True)
class LogPiece:
    """Bytes of the raw log. `offset` is that after them, `at` when they were written (seconds since the epoch)."""

    offset: int
    data: bytes
    at: float | None = None
    lost: int = 0  # bytes that no log storage has, told at the end


class Logs:
    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._project = project

    def poll(
        self,
        run_name: str,
        job_submission_id: str,
        *,
        start_time: str | None = None,
        diagnose: bool = False,
    ) -> Iterator[tuple[str, bytes]]:
        """The stored lines as (timestamp in ISO 8601, bytes), oldest first; `diagnose` gives the agent's own log."""
        token = None
        while True:
            body = {
                "run_name": run_name,
                "job_submission_id": job_submission_id,
                "start_time": start_time,
                "end_time": None,
                "descending": False,
                "next_token": token,
                "limit": 1000,
                "diagnose": diagnose,
            }
            answer = self._transport.call(f"/api/project/{self._project}/logs/poll", body)
            for event in answer["logs"]:
                yield event["timestamp"], base64.b64decode(event["message"])
            token = answer.get("next_token")
            if not token or not answer["logs"]:
                return

    def follow(
        self,
        job_submission_id: str,
        *,
        offset: int = 0,
        wait: bool = True,
        patience_s: float = 300.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[LogPiece]:
        """The raw log from `offset` on, to its end (or to its present end with `wait=False`).

        A lost connection is made again, and the log goes on where it was cut. Raises ServerUnreachable when the server
        stays away for about `patience_s` seconds.
        """
        delay_s, waited_s = FIRST_DELAY_S, 0.0
        while True:
            try:
                for piece, end in self._connected(job_submission_id, offset, wait):
                    delay_s, waited_s = FIRST_DELAY_S, 0.0
                    offset = piece.offset
                    if piece.data or piece.lost:
                        yield piece
                    if end:
                        return
            except ServerUnreachable:
                if waited_s >= patience_s:
                    raise
            if waited_s >= patience_s:
                raise ServerUnreachable("The log stream of the server ends again and again without its end")
            sleep(delay_s)
            waited_s += delay_s
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    def _connected(self, job_submission_id: str, offset: int, wait: bool) -> Iterator[tuple[LogPiece, bool]]:
        """Pieces of one connection, each with whether it is the end; a stream that is cut just stops."""
        body = {"job_submission_id": job_submission_id, "offset": offset, "wait": wait}
        for line in self._transport.stream(f"/api/project/{self._project}/logs/follow", body):
            message = _message(line)
            if message is None:
                return  # cut in the middle of a line: the next connection starts before it
            if message.get("end"):
                yield LogPiece(int(message.get("offset", offset)), b"", lost=int(message.get("lost") or 0)), True
                return
            if "data" in message:
                data = base64.b64decode(message["data"])
                yield LogPiece(int(message["offset"]), data, message.get("at"), int(message.get("lost") or 0)), False


def _message(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        raise DstackError(
            "The server's log stream is not understood", hint="is the server of another version?"
        ) from None
    return message if isinstance(message, dict) else None
