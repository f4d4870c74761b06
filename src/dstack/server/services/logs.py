"""Logs of jobs: pages of lines as the public API has them, and one stream that follows the raw bytes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import select

from dstack.errors import DstackError, ResourceNotFound
from dstack.model.job import Job
from dstack.model.wire.requests import FollowLogs, PollLogs
from dstack.server.auth.identity import Access
from dstack.server.logs.files import LogSize, LogSlice
from dstack.server.parts import Parts
from dstack.server.services.wire.values import seconds, stamp
from dstack.server.store.tables import TABLES, act, event, event_target

CHUNK = 256 * 1024
HEARTBEAT_S = 10.0
# Only newlines end a line: carriage returns redraw it and belong to it.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
# Control sequences of terminals: CSI, OSC, and the two-character ones.
_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


async def check_job(parts: Parts, access: Access, job_id: str) -> float:
    """When the submission was made. Raises ResourceNotFound when it is not one of the project."""
    job = TABLES["job"]
    statement = select(job.c.submitted_at).where(job.c.id == job_id, job.c.project_id == access.project.id)
    async with parts.database.read() as connection:
        found = (await connection.execute(statement)).scalar()
    if found is None:
        raise ResourceNotFound("Job submission not found")
    return found


async def poll(parts: Parts, access: Access, request: PollLogs) -> dict[str, Any]:
    """A page of lines without terminal control; `next_token` null: this is all there is now."""
    job_id = str(request.job_submission_id)
    submitted_at = await check_job(parts, access, job_id)
    if request.diagnose:
        return _answer(await diagnostics(parts, job_id), None)
    page = _Page(parts, access.project.id, job_id, request, submitted_at)
    return await (page.backward() if request.descending else page.forward())


async def follow(parts: Parts, access: Access, request: FollowLogs) -> AsyncIterator[bytes]:
    """Lines of JSON: pieces as they are stored, `{}` while nothing comes, and the end. Check the job first."""
    job_id, offset = str(request.job_submission_id), request.offset
    size = await parts.logs.size(job_id)
    while True:
        piece = await parts.logs.read(access.project.id, job_id, offset, CHUNK, size)
        for line in _pieces(piece):
            yield line
        offset, lost = piece.next, piece.lost
        if piece.final or (not request.wait and not piece.data and not lost):
            yield _line({"end": True, "offset": offset, "lost": lost})
            return
        if lost:
            yield _line({"offset": offset, "data": "", "lost": lost})
            continue
        if parts.changes.closed:
            return  # cut, not ended: the client asks again where it stands
        if not piece.data:
            size = await parts.logs.wait(job_id, offset, HEARTBEAT_S)
            if _ends_at(size, offset):
                # Its host is gone, or it never had one: nothing will follow. What came just before its end is there.
                if await _is_over(parts, job_id) and _ends_at(await parts.logs.size(job_id), offset):
                    yield _line({"end": True, "offset": offset, "lost": 0})
                    return
                yield _line({})


async def diagnostics(parts: Parts, job_id: str) -> list[dict[str, Any]]:
    """What the server did with the job, and what it tries in vain just now, as log lines."""
    about = select(event_target.c.event_id).where(event_target.c.target_id == job_id)
    told = select(event.c.recorded_at, event.c.message).where(event.c.id.in_(about)).order_by(event.c.seq)
    tried = select(act.c.verb, act.c.attempts, act.c.last_error, act.c.created_at).where(
        act.c.kind == Job.kind, act.c.resource_id == job_id, act.c.attempts > 0
    )
    async with parts.database.read() as connection:
        lines = [(one.recorded_at, one.message) for one in await connection.execute(told)]
        for one in await connection.execute(tried):
            lines.append((one.created_at, f"{one.verb}: tried {one.attempts} times. The last: {one.last_error}"))
    return [
        {
            "timestamp": stamp(at),
            "log_source": "stdout",
            "message": base64.b64encode(f"{message}\n".encode()).decode(),
        }
        for at, message in lines
    ]


def _ends_at(size: LogSize, offset: int) -> bool:
    """Nothing lies behind the offset, as far as anybody knows."""
    return size.size <= offset and not size.final


async def _is_over(parts: Parts, job_id: str) -> bool:
    job = TABLES["job"]
    statement = select(job.c.status).where(job.c.id == job_id)
    async with parts.database.read() as connection:
        status = (await connection.execute(statement)).scalar()
    return status is None or status in Job.terminal_statuses()


def _pieces(piece: LogSlice) -> list[bytes]:
    """Cut where another instant begins."""
    if not piece.data:
        return []
    cuts = sorted({piece.offset, *(at for at, _ in piece.marks if piece.offset < at < piece.next)})
    lines = []
    for start, end in zip(cuts, [*cuts[1:], piece.next], strict=True):
        data = base64.b64encode(piece.data[start - piece.offset : end - piece.offset])
        # By hand: a JSON encoder looks at each character of the data, which needs no escaping.
        lines.append(b'{"offset":%d,"at":%b,"data":"%b"}\n' % (end, json.dumps(piece.at(start)).encode(), data))
    return lines


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


class _Page:
    """One page of lines. Tokens are offsets in the stored log."""

    def __init__(self, parts: Parts, project_id: str, job_id: str, request: PollLogs, submitted_at: float):
        self._logs, self._project_id, self._job_id = parts.logs, project_id, job_id
        self._limit = request.limit
        self._token = _offset(request.next_token)
        self._start, self._end = seconds(request.start_time), seconds(request.end_time)
        self._submitted_at = submitted_at

    async def forward(self) -> dict[str, Any]:
        offset, events = self._token or 0, []
        while len(events) < self._limit:
            piece = await self._logs.read(self._project_id, self._job_id, offset, CHUNK)
            lines = _lines(piece)
            for start, line in lines[: self._limit - len(events)]:
                offset = start + len(line)
                if event := self._event(piece, start, line):
                    events.append(event)
            if piece.lost:
                offset = piece.next
                continue
            if not lines:
                return _answer(events, None)
            if len(events) >= self._limit:
                break
        size = (await self._logs.size(self._job_id)).size
        return _answer(events, str(offset) if offset < size else None)

    async def backward(self) -> dict[str, Any]:
        size = (await self._logs.size(self._job_id)).size
        end, events = size if self._token is None else min(self._token, size), []
        while end > 0 and len(events) < self._limit:
            start = max(0, end - CHUNK)
            piece = await self._logs.read(self._project_id, self._job_id, start, end - start)
            lines = _lines(piece, whole=True)
            if not lines:  # nothing of it is there any more
                end = start
                continue
            # The first line of a chunk in the middle may have begun before it.
            usable = lines[1:] if start > 0 and len(lines) > 1 else lines
            for at, line in reversed(usable[-(self._limit - len(events)) :]):
                end = at
                if event := self._event(piece, at, line):
                    events.append(event)
        return _answer(events, str(end) if end > 0 else None)

    def _event(self, piece: LogSlice, start: int, line: bytes) -> dict[str, Any] | None:
        at = piece.at(start)
        at = self._submitted_at if at is None else at
        if (self._start is not None and at < self._start) or (self._end is not None and at >= self._end):
            return None
        message = base64.b64encode(_ANSI.sub(b"", line)).decode()
        return {"timestamp": stamp(at), "log_source": "stdout", "message": message}


def _lines(piece: LogSlice, *, whole: bool = False) -> list[tuple[int, bytes]]:
    """(offset, line with its end). An unfinished last line counts when nothing more is stored, or it is very long."""
    lines, start = [], piece.offset
    for line in _LINE.findall(piece.data):
        lines.append((start, line))
        start += len(line)
    open_end = bool(lines) and not lines[-1][1].endswith(b"\n")
    if open_end and not whole and len(lines) > 1 and len(piece.data) >= CHUNK:
        lines.pop()
    return lines


def _offset(token: str | None) -> int | None:
    if token is None:
        return None
    if not token.isascii() or not token.isdigit() or len(token) > 18:
        raise DstackError("next_token is not one that this server gave")
    return int(token)


def _answer(events: list[dict[str, Any]], token: str | None) -> dict[str, Any]:
    return {"logs": events, "external_url": None, "next_token": token}
