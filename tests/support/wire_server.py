"""A real HTTP server that answers with prepared JSON, and fails in every way a server can: for tests of clients."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    path: str
    body: Any
    headers: dict[str, str]
    raw: bytes


@dataclass(frozen=True)
class Status:
    """An answer with a status of its own."""

    code: int
    body: Any = None


@dataclass(frozen=True)
class Raw:
    """Bytes on the socket in place of an HTTP answer; nothing at all is a closed connection."""

    data: bytes = b""


@dataclass(frozen=True)
class NotJson:
    text: str = "<html>hello</html>"


@dataclass(frozen=True)
class Hang:
    """No answer until the server ends."""


@dataclass(frozen=True)
class Lines:
    """An NDJSON stream. `then` is `end` (a proper end), `cut` (in the middle of the next line) or `hang`."""

    items: Sequence[Any]
    then: str = "end"


@dataclass
class _Route:
    answers: list[Any] = field(default_factory=list)


class WireServer:
    """`on(path, *answers)` prepares answers for one path, used in turn; the last one stays.

    An answer is JSON, one of the classes above, or a function of the request that returns such a thing.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0  # that were ever opened
        self.arrived = threading.Condition()
        self.closing = threading.Event()
        self._routes: dict[str, _Route] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                with outer.arrived:
                    outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                outer._serve(self)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is no trouble of the test's."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def on(self, path: str, *answers: Any) -> Self:
        """`path` is whole (`/api/...`) or relative to the project `main` (`runs/get`)."""
        self._routes[self._full(path)] = _Route(list(answers))
        return self

    def bodies(self, path: str) -> list[Any]:
        """What was sent to one path."""
        return [request.body for request in self.requests if request.path == self._full(path)]

    def wait_for(self, path: str, times: int = 1, timeout_s: float = 60.0) -> None:
        """Until the path was asked so many times."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.bodies(path)) >= times, timeout_s):
                raise AssertionError(f"{path} was asked {len(self.bodies(path))} times, expected {times}")

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _full(path: str) -> str:
        return path if path.startswith("/") else f"/api/project/main/{path}"

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        is_json = handler.headers.get("Content-Type") == "application/json"
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.path, json.loads(raw) if raw and is_json else None, headers, raw)
        with self.arrived:
            self.requests.append(request)
            answer = self._next(request)
            self.arrived.notify_all()
        while isinstance(answer, Callable):
            answer = answer(request)
        _send(handler, answer, self.closing)

    def _next(self, request: Request) -> Any:
        route = self._routes.get(request.path)
        if route is None:
            return Status(405, {"detail": "Method Not Allowed"})
        return route.answers.pop(0) if len(route.answers) > 1 else route.answers[0]


def _send(handler: BaseHTTPRequestHandler, answer: Any, closing: threading.Event) -> None:
    match answer:
        case Hang():
            closing.wait()
            handler.close_connection = True
        case Raw(data=data):
            handler.wfile.write(data)
            handler.close_connection = True
        case NotJson(text=text):
            _reply(handler, 200, text.encode())
        case Status(code=code, body=body):
            _reply(handler, code, json.dumps(body).encode())
        case Lines():
            _stream(handler, answer, closing)
        case _:
            _reply(handler, 200, json.dumps(answer).encode())


def _reply(handler: BaseHTTPRequestHandler, code: int, content: bytes) -> None:
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def _stream(handler: BaseHTTPRequestHandler, answer: Lines, closing: threading.Event) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/x-ndjson")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()

    def chunk(data: bytes) -> None:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    for item in answer.items:
        if isinstance(item, threading.Event):
            item.wait(timeout=60)
        else:
            chunk(json.dumps(item).encode() + b"\n")
    if answer.then == "end":
        chunk(b"")
        return
    handler.close_connection = True
    if answer.then == "cut":
        chunk(b'{"offset": 99, "da')
    else:
        closing.wait()


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        threading.Event().wait(0.01)
