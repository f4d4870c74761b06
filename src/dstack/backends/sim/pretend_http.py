"""The agent's protocol in front of an agent that pretends: HTTP within this process."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from dstack.agentapi import wire
from dstack.agentapi.client import Connect
from dstack.agentapi.wire import EventsPage, Health, StopRequest, TaskSpec, to_json
from dstack.backends.sim.pipe import open_pipe
from dstack.backends.sim.pretend import NotEnded, PretendAgent

MAX_WAIT_S = 600.0
MAX_REQUEST_BYTES = 32 * 1024 * 1024


def connect_to(agent: PretendAgent) -> Connect:
    """Connections to an agent of this process."""

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return open_pipe(_Conversation(agent))

    return connect


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: dict[str, str]
    body: bytes

    def number(self, name: str) -> float:
        return float(self.query.get(name, 0))


@dataclass(frozen=True)
class _Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Later:
    """Nothing yet. `look` is asked after every change, and a last time after `wait_s`."""

    wait_s: float
    look: Callable[[bool], _Answer | None]


class _Conversation(asyncio.Protocol):
    """One connection: a request at a time, each answered before the next is read."""

    def __init__(self, agent: PretendAgent):
        self._agent = agent
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._waiting: tuple[Callable[[], None], asyncio.TimerHandle] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting is None and self._transport is not None and (request := self._next()) is not None:
            answer = _respond(self._agent, request)
            if isinstance(answer, _Later):
                self._wait(request, answer)
            else:
                self._send(request, answer)

    def _next(self) -> _Request | None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if length > MAX_REQUEST_BYTES and self._transport is not None:
            self._transport.abort()
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        url = urlsplit(target)
        return _Request(method, unquote(url.path), dict(parse_qsl(url.query)), rest[:length])

    def _wait(self, request: _Request, later: _Later) -> None:
        def look(last: bool = False) -> None:
            answer = later.look(last)
            if answer is not None:
                self._stop_waiting()
                self._send(request, answer)
                self._go_on()

        timer = asyncio.get_running_loop().call_later(later.wait_s, look, True)
        self._agent.waiters.add(look)
        self._waiting = (look, timer)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            look, timer = self._waiting
            timer.cancel()
            self._agent.waiters.discard(look)
            self._waiting = None

    def _send(self, request: _Request, answer: _Answer) -> None:
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {answer.status} -", f"Content-Length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._transport.write(head if request.method == "HEAD" else head + answer.body)


def _respond(agent: PretendAgent, request: _Request) -> _Answer | _Later:
    try:
        for method, pattern, handler in _ROUTES:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return handler(agent, request, *match.groups())
    except ValueError as e:
        return _refusal(400, "bad_request", str(e))
    except NotEnded as e:
        return _refusal(409, "not_ended", str(e))
    return _refusal(404, "not_found", f"an agent that pretends has no {request.path}")


def _put(agent: PretendAgent, request: _Request, task_id: str) -> _Answer:
    return _json(agent.put(wire.from_json(TaskSpec, json.loads(request.body))))


def _stop(agent: PretendAgent, request: _Request, task_id: str) -> _Answer:
    return _json(agent.stop(task_id, wire.from_json(StopRequest, json.loads(request.body or b"{}"))))


def _delete(agent: PretendAgent, request: _Request, task_id: str) -> _Answer:
    agent.delete(task_id, int(request.number("log_offset")), request.query.get("force") == "1")
    return _Answer(b"{}")


def _metrics(agent: PretendAgent, request: _Request, task_id: str) -> _Answer:
    return _refusal(503, wire.EXECUTOR_ERROR, "nothing runs that could be measured")


def _events(agent: PretendAgent, request: _Request) -> _Later:
    run, after = request.query.get("run", ""), int(request.number("after"))

    def look(last: bool) -> _Answer | None:
        page = agent.events(run, after)
        return _json(page or EventsPage(agent.run, after)) if page is not None or last else None

    return _later(request, look)


def _logs(agent: PretendAgent, request: _Request, task_id: str) -> _Answer | _Later:
    offset = int(request.number("offset"))

    def look(last: bool) -> _Answer | None:
        task = agent.find(task_id)  # each time: an agent that began anew meanwhile does not know it any more
        if task is None:
            return _refusal(404, "not_found", f"there is no task {task_id}")
        data = task.log.encode()[offset : offset + wire.MAX_LOG_CHUNK]
        if not data and not task.ended and not last:
            return None
        end = offset + len(data)
        marks = [[0, task.started_at]] if data and task.started_at is not None else []
        final = task.ended and end >= len(task.log.encode())
        headers = {wire.LOG_NEXT: str(end), wire.LOG_FINAL: str(int(final)), wire.LOG_MARKS: json.dumps(marks)}
        return _Answer(data, headers=headers)

    return _later(request, look)


def _later(request: _Request, look: Callable[[bool], _Answer | None]) -> Any:
    now = look(request.number("wait") <= 0)
    return now if now is not None else _Later(min(MAX_WAIT_S, request.number("wait")), look)


def _json(value: Any) -> _Answer:
    return _Answer(json.dumps(to_json(value)).encode())


def _refusal(status: int, code: str, message: str) -> _Answer:
    return _Answer(json.dumps({"error": {"code": code, "message": message}}).encode(), status)


_TASK = r"/v1/tasks/([^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., _Answer | _Later]]] = [
    (
        "GET",
        re.compile("/v1/health"),
        lambda agent, request: _json(Health(version=agent.facts.agent_version, run=agent.run)),
    ),
    ("GET", re.compile("/v1/host"), lambda agent, request: _json(agent.facts)),
    (
        "GET",
        re.compile("/v1/tasks"),
        lambda agent, request: _Answer(json.dumps({"tasks": [to_json(t) for t in agent.all()]}).encode()),
    ),
    ("PUT", re.compile(_TASK), _put),
    ("POST", re.compile(_TASK + "/stop"), _stop),
    ("DELETE", re.compile(_TASK), _delete),
    ("GET", re.compile(_TASK + "/logs"), _logs),
    ("GET", re.compile(_TASK + "/metrics"), _metrics),
    ("GET", re.compile("/v1/events"), _events),
    # Code is never needed: whatever is asked for counts as sent.
    ("HEAD", re.compile(r"/v1/blobs/([^/]+)"), lambda agent, request, sha256: _Answer()),
]
