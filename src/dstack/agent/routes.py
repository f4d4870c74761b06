"""The protocol of `agentapi.wire`: each route in terms of tasks, store and host facts."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from typing import Any, Awaitable, Callable, Dict, List, Pattern, Tuple, Type, TypeVar

import dstack
from dstack.agent import logfile
from dstack.agent.http import HttpError, Request, Response, json_response
from dstack.agent.keys import BadKey, parse_all
from dstack.agent.machine import Task, TaskFailed
from dstack.agent.store import LEGAL_HASH, LEGAL_ID, BlobWriter, DiskFull, Store, WrongHash
from dstack.agent.tasks import NotEnded, Tasks, UnknownTask
from dstack.agentapi import wire

MAX_WAIT_S = 600.0
T = TypeVar("T")
HostFactsSource = Callable[[], Awaitable[wire.HostFacts]]
ApplyKeys = Callable[[Task], Awaitable[None]]
Tell = Callable[[Task, str], Awaitable[None]]
TellStop = Callable[[Task, wire.StopRequest], Awaitable[None]]


class Routes:
    def __init__(
        self,
        tasks: Tasks,
        store: Store,
        host_facts: HostFactsSource,
        apply_keys: ApplyKeys,
        tell: Tell,
        tell_stop: TellStop,
    ):
        self._tasks = tasks
        self._store = store
        self._host_facts = host_facts
        self._apply_keys = apply_keys
        self._tell = tell
        self._tell_stop = tell_stop
        task = r"/v1/tasks/(?P<id>[^/]+)"
        table: List[Tuple[str, str, Callable[..., Awaitable[Response]]]] = [
            ("GET", r"/v1/health", self._health),
            ("GET", r"/v1/host", self._host),
            ("GET", r"/v1/tasks", self._list),
            ("PUT", task, self._put),
            ("POST", task + "/stop", self._stop),
            ("PUT", task + "/keys", self._keys),
            ("POST", task + "/notice", self._notice),
            ("DELETE", task, self._delete),
            ("GET", task + "/logs", self._logs),
            ("GET", task + "/metrics", self._metrics),
            ("GET", r"/v1/events", self._events),
            ("HEAD", r"/v1/blobs/(?P<sha256>[^/]+)", self._has_blob),
            ("PUT", r"/v1/blobs/(?P<sha256>[^/]+)", self._put_blob),
        ]
        self._table: List[Tuple[str, Pattern[str], Callable[..., Awaitable[Response]]]]
        self._table = [(method, re.compile(path + r"\Z"), handler) for method, path, handler in table]

    async def __call__(self, request: Request) -> Response:
        known = False
        for method, pattern, handler in self._table:
            match = pattern.match(request.path)
            if match and method == request.method:
                _check_names(match.groupdict())
                return await _translating(handler(request, **match.groupdict()))
            known = known or bool(match)
        if known:
            raise HttpError(405, "method_not_allowed", "%s is not possible on %s" % (request.method, request.path))
        raise HttpError(404, "not_found", "there is no %s" % request.path)

    async def _health(self, request: Request) -> Response:
        return json_response(wire.to_json(wire.Health(wire.PROTOCOL, dstack.__version__, self._tasks.run)))

    async def _host(self, request: Request) -> Response:
        return json_response(wire.to_json(await self._host_facts()))

    async def _list(self, request: Request) -> Response:
        reports = [wire.to_json(self._tasks.report(task)) for task in self._tasks.all()]
        return json_response({"tasks": reports})

    async def _put(self, request: Request, id: str) -> Response:
        spec = _decode(wire.TaskSpec, await request.json())
        if spec.id != id:
            raise HttpError(400, "bad_request", "the path names another task than the body")
        return json_response(wire.to_json(self._tasks.put(spec)))

    async def _stop(self, request: Request, id: str) -> Response:
        stop = _decode(wire.StopRequest, await request.json())
        known = next((task for task in self._tasks.all() if task.id == id), None)
        if known is not None:
            await self._tell_stop(known, stop)
        return json_response(wire.to_json(self._tasks.stop(id, stop)))

    async def _keys(self, request: Request, id: str) -> Response:
        wanted = _decode(wire.SessionKeys, await request.json()).keys
        try:
            parse_all(wanted)
        except BadKey as e:
            raise HttpError(400, "bad_key", str(e)) from None
        task = self._tasks.set_keys(id, wanted)
        await self._apply_keys(task)
        return json_response(wire.to_json(self._tasks.report(task)))

    async def _notice(self, request: Request, id: str) -> Response:
        message = _decode(wire.Notice, await request.json()).message
        await self._tell(self._tasks.find(id), message)
        return json_response({})

    async def _delete(self, request: Request, id: str) -> Response:
        offset = int(_number(request, "log_offset", 0))
        await self._tasks.delete(id, offset, request.query.get("force") == "1")
        return json_response({})

    async def _logs(self, request: Request, id: str) -> Response:
        task = self._tasks.find(id)
        offset = int(_number(request, "offset", 0))
        deadline = time.monotonic() + min(MAX_WAIT_S, _number(request, "wait", 0))
        while task.log_size <= offset and not task.ended:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not await task.log_grew.wait(remaining):
                break
        ended, size = task.ended, task.log_size
        if offset > size and not ended:
            raise HttpError(400, "bad_offset", "the log has %d bytes, not %d" % (size, offset))
        # An ended task whose log lost its tail to a power cut has told all that it ever will.
        data = logfile.read(task.directory, offset, max(0, min(wire.MAX_LOG_CHUNK, size - offset)))
        end = offset + len(data)
        marks = logfile.marks(task.directory, offset, end, wire.MAX_LOG_MARKS) if data else []
        final = ended and end >= size
        headers = {wire.LOG_NEXT: str(end), wire.LOG_FINAL: "1" if final else "0", wire.LOG_MARKS: json.dumps(marks)}
        return Response(data, content_type="application/octet-stream", headers=headers)

    async def _metrics(self, request: Request, id: str) -> Response:
        return json_response(wire.to_json(await self._tasks.metrics(self._tasks.find(id))))

    async def _events(self, request: Request) -> Response:
        after = int(_number(request, "after", 0))
        wait_s = min(MAX_WAIT_S, _number(request, "wait", 0))
        page = await self._tasks.events(request.query.get("run", ""), after, wait_s)
        return json_response(wire.to_json(page))

    async def _has_blob(self, request: Request, sha256: str) -> Response:
        if not self._store.has_blob(sha256):
            raise HttpError(404, "not_found", "there is no such blob")
        self._store.touch_blob(sha256)  # it is about to be used: the cleaning at the next start spares it
        return Response()

    async def _put_blob(self, request: Request, sha256: str) -> Response:
        writer = BlobWriter(self._store, sha256)
        loop = asyncio.get_running_loop()
        try:
            async for piece in request.pieces():
                await loop.run_in_executor(None, writer.write, piece)
            await loop.run_in_executor(None, writer.commit)
        finally:
            writer.discard()
        return json_response({})


async def _translating(answer: Awaitable[Response]) -> Response:
    """Expected troubles as HTTP errors."""
    try:
        return await answer
    except UnknownTask as e:
        raise HttpError(404, "not_found", str(e)) from None
    except NotEnded as e:
        raise HttpError(409, "not_ended", str(e)) from None
    except WrongHash as e:
        raise HttpError(400, "wrong_hash", str(e)) from None
    except DiskFull as e:
        raise HttpError(507, wire.DISK_FULL, str(e)) from None
    except TaskFailed as e:
        raise HttpError(503, e.reason, e.message) from None


def _check_names(names: Dict[str, str]) -> None:
    if "id" in names and not LEGAL_ID.match(names["id"]):
        raise HttpError(400, "bad_request", "this is no legal task ID")
    if "sha256" in names and not LEGAL_HASH.match(names["sha256"]):
        raise HttpError(400, "bad_request", "this is no SHA-256 in hexadecimal")


def _decode(cls: Type[T], data: Any) -> T:
    try:
        return wire.from_json(cls, data)
    except ValueError as e:
        raise HttpError(400, "bad_request", str(e)) from None


def _number(request: Request, name: str, default: float) -> float:
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        value = -1.0
    if not math.isfinite(value) or value < 0:
        raise HttpError(400, "bad_request", "`%s` is no number from 0 on" % name)
    return value
