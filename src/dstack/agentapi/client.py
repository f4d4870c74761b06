"""The server's side of the agent's protocol, over any byte stream: a local Unix socket now, an SSH channel later."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from dstack.agentapi import wire
from dstack.agentapi.wire import EventsPage, Health, HostFacts, StopRequest, TaskMetrics, TaskReport, TaskSpec

# Opens one fresh connection to the agent. Raises OSError when the host or the agent cannot be reached.
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

DEADLINE_S = 15.0
POLL_SLACK_S = 15.0  # on top of the time that a long poll may wait at the agent
BLOB_DEADLINE_S = 600.0
MAX_IDLE_CONNECTIONS = 8
PIECE_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # a host that is somebody else's by now must not fill the server's memory
YEAR_10000 = 253_402_300_800.0  # no instant that can be written as a date
SOCKET_PATH_BYTES = 100  # what fits into a socket's address on every system

T = TypeVar("T")


class AgentUnreachable(Exception):
    """No answer: the host, the agent or the way to it is down. Nothing is known about the tasks."""


class AgentRefused(Exception):
    """The agent answered with an error; `code` is the agent's, `status` the HTTP status."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True)
class LogChunk:
    """Bytes of one task's log. `next` is the offset after them; `marks` are (offset in `data`, instant written)."""

    data: bytes
    next: int
    final: bool
    marks: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    fresh: bool = field(default=True)


class AgentClient:
    """One agent. Requests may overlap; each takes a connection of its own, idle ones are used again.

    Every method takes `deadline_s`, the longest time until its answer, and raises AgentUnreachable (also when that time
    is over) or AgentRefused. All requests are idempotent, so one that meets a connection which died while idle is sent
    again on a fresh one.
    """

    def __init__(self, connect: Connect):
        self._connect = connect
        self._idle: list[_Connection] = []
        self._closed = False

    async def health(self, *, deadline_s: float = DEADLINE_S) -> Health:
        return _decode(Health, await self._json("GET", "/v1/health", deadline_s))

    async def host(self, *, deadline_s: float = 30.0) -> HostFacts:
        return _decode(HostFacts, await self._json("GET", "/v1/host", deadline_s))

    async def tasks(self, *, deadline_s: float = DEADLINE_S) -> list[TaskReport]:
        answer = await self._json("GET", "/v1/tasks", deadline_s)
        return [_decode(TaskReport, each) for each in answer.get("tasks", [])]

    async def put_task(self, spec: TaskSpec, *, deadline_s: float = DEADLINE_S) -> TaskReport:
        """Start a task; sent again, it answers the present state."""
        body = json.dumps(wire.to_json(spec)).encode()
        return _decode(TaskReport, await self._json("PUT", _task(spec.id), deadline_s, body))

    async def put_keys(self, task_id: str, keys: list[str], *, deadline_s: float = DEADLINE_S) -> TaskReport:
        """Say who may have sessions in the task from now on; those of everybody else end."""
        body = json.dumps(wire.to_json(wire.SessionKeys(keys))).encode()
        return _decode(TaskReport, await self._json("PUT", _task(task_id) + "/keys", deadline_s, body))

    async def stop(self, task_id: str, request: StopRequest, *, deadline_s: float = DEADLINE_S) -> TaskReport:
        body = json.dumps(wire.to_json(request)).encode()
        return _decode(TaskReport, await self._json("POST", _task(task_id) + "/stop", deadline_s, body))

    async def notice(self, task_id: str, message: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Say something to those who are in the task, and in its log. Sent again, it is said again."""
        body = json.dumps(wire.to_json(wire.Notice(message))).encode()
        await self._json("POST", _task(task_id) + "/notice", deadline_s, body)

    async def delete(
        self, task_id: str, log_offset: int, force: bool = False, *, deadline_s: float = 2 * DEADLINE_S
    ) -> None:
        """Let the agent forget an ended task whose log was stored up to `log_offset`."""
        query = urlencode({"log_offset": log_offset, **({"force": 1} if force else {})})
        await self._json("DELETE", f"{_task(task_id)}?{query}", deadline_s)

    async def logs(
        self, task_id: str, offset: int, wait_s: float = 0.0, *, deadline_s: float | None = None
    ) -> LogChunk:
        """The log from `offset` on; when there is nothing yet, waits for it up to `wait_s`."""
        path = f"{_task(task_id)}/logs?" + urlencode({"offset": offset, "wait": wait_s})
        answer = await self._request("GET", path, deadline_s or wait_s + POLL_SLACK_S)
        try:
            said = [(int(at), float(when)) for at, when in json.loads(answer.headers.get(_MARKS, "[]"))]
            end = int(answer.headers[_NEXT])
        except (KeyError, ValueError, TypeError, OverflowError) as e:
            raise AgentUnreachable(f"the agent's answer cannot be understood: {e}") from e
        marks = tuple(mark for mark in said if 0 <= mark[1] < YEAR_10000)  # what is no date says nothing
        return LogChunk(answer.body, end, answer.headers.get(_FINAL) == "1", marks)

    async def metrics(self, task_id: str, *, deadline_s: float = 30.0) -> TaskMetrics:
        return _decode(TaskMetrics, await self._json("GET", _task(task_id) + "/metrics", deadline_s))

    async def events(self, run: str, after: int, wait_s: float = 0.0, *, deadline_s: float | None = None) -> EventsPage:
        """Tasks that changed after `after`; when `run` is not the agent's present one, all tasks at once."""
        path = "/v1/events?" + urlencode({"run": run, "after": after, "wait": wait_s})
        return _decode(EventsPage, await self._json("GET", path, deadline_s or wait_s + POLL_SLACK_S))

    async def has_blob(self, sha256: str, *, deadline_s: float = DEADLINE_S) -> bool:
        try:
            await self._request("HEAD", f"/v1/blobs/{sha256}", deadline_s)
        except AgentRefused as e:
            if e.status == 404:
                return False
            raise
        return True

    async def put_blob(self, sha256: str, content: bytes | str | Path, *, deadline_s: float = BLOB_DEADLINE_S) -> None:
        """Send bytes, or the file at a path. AgentRefused (`wrong_hash`) when they are not those of `sha256`."""
        await self._json("PUT", f"/v1/blobs/{sha256}", deadline_s, content)

    async def aclose(self) -> None:
        self._closed = True
        for connection in self._idle:
            connection.writer.close()
        self._idle.clear()

    async def _json(
        self, method: str, path: str, deadline_s: float, content: bytes | str | Path = b""
    ) -> dict[str, Any]:
        answer = await self._request(method, path, deadline_s, content)
        try:
            data = json.loads(answer.body)
        except ValueError as e:
            raise AgentUnreachable(f"the agent's answer is no JSON: {e}") from e
        if not isinstance(data, dict):
            raise AgentUnreachable("the agent's answer is no JSON object")
        return data

    async def _request(self, method: str, path: str, deadline_s: float, content: bytes | str | Path = b"") -> _Answer:
        try:
            async with asyncio.timeout(deadline_s):
                answer = await self._exchange(method, path, content)
        except TimeoutError as e:
            raise AgentUnreachable(f"the agent did not answer within {deadline_s:g} s") from e
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as e:
            raise AgentUnreachable(f"the agent cannot be reached: {e or type(e).__name__}") from e
        if answer.status >= 400:
            raise _refusal(answer)
        return answer

    async def _exchange(self, method: str, path: str, content: bytes | str | Path) -> _Answer:
        while True:
            connection = await self._take()
            try:
                answer = await _talk(connection, method, path, content)
            except (OSError, asyncio.IncompleteReadError):
                connection.writer.close()
                if connection.fresh:
                    raise
                continue  # the idle connection had died; each round uses one up, so this ends
            except BaseException:
                connection.writer.close()
                raise
            self._give_back(connection, answer)
            return answer

    async def _take(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof() and not connection.writer.is_closing():
                connection.fresh = False
                return connection
            connection.writer.close()
        return _Connection(*await self._connect())

    def _give_back(self, connection: _Connection, answer: _Answer) -> None:
        if answer.reusable and not self._closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.writer.close()


def unix_connect(path: str | os.PathLike[str]) -> Connect:
    """Connections to the Unix socket at `path`, however long that is."""

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with _short_path(os.fspath(path)) as short:
            return await asyncio.open_unix_connection(short)

    return connect


def hash_of(content: bytes) -> str:
    """The name under which `content` is sent as a blob."""
    return hashlib.sha256(content).hexdigest()


_NEXT, _FINAL, _MARKS = wire.LOG_NEXT.lower(), wire.LOG_FINAL.lower(), wire.LOG_MARKS.lower()


@contextlib.contextmanager
def _short_path(path: str):
    """A path of `path`'s socket that fits into a socket address: itself, or one through a link to its folder."""
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        yield path
        return
    folder, name = os.path.split(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix="dstack-") as link_folder:
        link = os.path.join(link_folder, "d")
        os.symlink(folder, link)
        yield os.path.join(link, name)


async def _talk(connection: _Connection, method: str, path: str, content: bytes | str | Path) -> _Answer:
    """Send one request, read its answer."""
    size = len(content) if isinstance(content, bytes) else await asyncio.to_thread(os.path.getsize, content)
    head = f"{method} {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: {size}\r\n\r\n"
    if isinstance(content, bytes):
        connection.writer.write(head.encode("ascii") + content)
        await connection.writer.drain()
    else:
        connection.writer.write(head.encode("ascii"))
        await _send_file(connection.writer, content)
    return await _read_answer(connection.reader, method)


async def _send_file(writer: asyncio.StreamWriter, path: str | Path) -> None:
    with await asyncio.to_thread(open, path, "rb") as f:
        while piece := await asyncio.to_thread(f.read, PIECE_BYTES):
            writer.write(piece)
            await writer.drain()


async def _read_answer(reader: asyncio.StreamReader, method: str) -> _Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    status = int(first.split(" ", 2)[1])
    headers = {}
    for line in lines:
        if line:
            name, value = line.split(":", 1)
            headers[name.strip().lower()] = value.strip()
    length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
    if not 0 <= length <= MAX_ANSWER_BYTES:
        raise ValueError(f"an answer of {length} bytes")
    body = await reader.readexactly(length)
    return _Answer(status, headers, body, headers.get("connection", "").lower() != "close")


def _refusal(answer: _Answer) -> AgentRefused:
    try:
        error = json.loads(answer.body)["error"]
        return AgentRefused(answer.status, str(error["code"]), str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return AgentRefused(answer.status, "failed", f"HTTP {answer.status}")


def _decode(cls: type[T], data: Any) -> T:
    try:
        return wire.from_json(cls, data)
    except ValueError as e:
        raise AgentUnreachable(f"the agent's answer cannot be understood: {e}") from e


def _task(task_id: str) -> str:
    return "/v1/tasks/" + quote(task_id, safe="")
