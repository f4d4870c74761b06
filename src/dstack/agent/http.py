"""A small HTTP/1.1 server on a Unix socket: requests in, responses out, nothing of what they mean."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Set
from urllib.parse import parse_qsl, unquote, urlsplit

log = logging.getLogger("dstack.agent")

MAX_HEAD_BYTES = 64 * 1024
MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_SKIPPED_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 256 * 1024
STALLED_S = 60.0  # a body of which nothing arrives for so long is given up

PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict"}
PHRASES.update({413: "Payload Too Large", 500: "Internal Server Error", 503: "Service Unavailable"})
PHRASES.update({507: "Insufficient Storage"})


class HttpError(Exception):
    """Becomes a response `{"error": {"code", "message"}}`. `close`: the rest of the request cannot be read."""

    def __init__(self, status: int, code: str, message: str, close: bool = False):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.close = close


@dataclass
class Response:
    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    method: str
    path: str
    query: Dict[str, str]
    length: int
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _expects_continue: bool = False
    _read: int = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises HttpError when it breaks off."""
        if self._expects_continue:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self._read < self.length:
            piece = await asyncio.wait_for(self._reader.read(min(PIECE_BYTES, self.length - self._read)), STALLED_S)
            if not piece:
                raise HttpError(400, "bad_request", "the body broke off", close=True)
            self._read += len(piece)
            yield piece

    async def json(self) -> Any:
        """The body as JSON. Raises HttpError."""
        if self.length > MAX_JSON_BYTES:
            raise HttpError(413, "too_large", "the body is larger than %d bytes" % MAX_JSON_BYTES)
        data = b"".join([piece async for piece in self.pieces()])
        try:
            return json.loads(data.decode()) if data else {}
        except ValueError as e:
            raise HttpError(400, "bad_request", "the body is no JSON: %s" % e) from None

    async def skip_rest(self) -> bool:
        """Read on to the end of the body; False when that is too far.

        A refusal is lost on the way when the connection is closed before the caller has sent everything.
        """
        if self.length - self._read > MAX_SKIPPED_BYTES:
            return False
        async for _ in self.pieces():
            pass
        return True


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves `handler` on an already bound socket until `close`."""

    def __init__(self, handler: Handler):
        self._handler = handler
        self._connections: Set[asyncio.Task] = set()
        self._server: Any = None

    async def start(self, sock) -> None:
        self._server = await asyncio.start_unix_server(self.serve_connection, sock=sock, limit=MAX_HEAD_BYTES)

    async def close(self) -> None:
        self._server.close()
        connections = list(self._connections)
        for each in connections:
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the caller closes the connection. Never raises."""
        me = asyncio.current_task()
        assert me is not None
        self._connections.add(me)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # the caller went away, or the agent does; a request of which no answer came is sent again
        finally:
            self._connections.discard(me)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its response; False when the connection is over."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        except asyncio.LimitOverrunError:
            await _send(writer, _error(HttpError(413, "too_large", "the request's head is too large")), False, True)
            return False
        keep = True
        method = ""
        try:
            request = _parse(head, reader, writer)
            method = request.method
            response = await self._answer(request)
            keep = await request.skip_rest()
        except HttpError as e:
            response = _error(e)
            keep = False
        await _send(writer, response, method == "HEAD", not keep)
        return keep

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except HttpError as e:
            if e.close:
                raise
            return _error(e)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as e:
            log.error("%s %s: %s", request.method, request.path, e or type(e).__name__)
            return _error(HttpError(500, "failed", str(e) or type(e).__name__))
        except Exception as e:
            log.exception("%s %s", request.method, request.path)
            return _error(HttpError(500, "failed", "the agent failed: %s" % (e or type(e).__name__)))


def json_response(data: Any) -> Response:
    return Response(json.dumps(data).encode())


def _parse(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    try:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        headers = {}
        for line in lines:
            if line:
                name, value = line.split(":", 1)
                headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        if not version.startswith("HTTP/1.") or length < 0:
            raise ValueError
        url = urlsplit(target)
    except ValueError:
        raise HttpError(400, "bad_request", "this is no HTTP request", close=True) from None
    if "transfer-encoding" in headers:
        raise HttpError(400, "bad_request", "bodies need a Content-Length", close=True)
    expects = headers.get("expect", "").lower() == "100-continue"
    return Request(method, unquote(url.path), dict(parse_qsl(url.query)), length, reader, writer, expects)


def _error(e: HttpError) -> Response:
    return Response(json.dumps({"error": {"code": e.code, "message": e.message}}).encode(), e.status)


async def _send(writer: asyncio.StreamWriter, response: Response, head_only: bool, close: bool) -> None:
    lines = ["HTTP/1.1 %d %s" % (response.status, PHRASES.get(response.status, "Status"))]
    lines.append("Content-Type: " + response.content_type)
    lines.append("Content-Length: %d" % len(response.body))
    lines.extend("%s: %s" % item for item in response.headers.items())
    if close:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    writer.write(head)
    body = memoryview(b"" if head_only else response.body)
    for at in range(0, len(body), PIECE_BYTES):  # what is not taken at once is moved at each turn: little of it
        await writer.drain()
        writer.write(body[at : at + PIECE_BYTES])
    await writer.drain()
