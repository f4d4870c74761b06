"""A small client of the Docker Engine API over its Unix socket or TCP: requests, streams, and where the engine is."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import ssl
from typing import Any, AsyncIterator, BinaryIO, Dict, Optional, Tuple
from urllib.parse import quote, urlencode, urlsplit

DEFAULT_SOCKETS = ("/var/run/docker.sock", "~/.docker/run/docker.sock")
KNOWN_API = (1, 47)  # the newest version whose answers this client knows; an engine's own is used when that is older
CONNECT_S = 5.0
ANSWER_S = 120.0
PIECE_BYTES = 256 * 1024


class EngineUnreachable(Exception):
    """No engine there, or the connection to it broke."""


class EngineError(Exception):
    """The engine answered with an error."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


class Exchange:
    """An answer whose head is here and whose body is still to be read. Close it, or use it in `async with`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: Dict[str, str] = {}

    async def read_head(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(head[0].split(" ", 2)[1])
        for line in head[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    async def pieces(self, stalled_s: Optional[float] = None) -> AsyncIterator[bytes]:
        """The body as it comes. Raises EngineUnreachable when it breaks off or nothing comes for `stalled_s`."""
        try:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while True:
                    size = int((await asyncio.wait_for(self._reader.readline(), stalled_s)).split(b";")[0] or b"x", 16)
                    if not size:
                        return
                    yield await self._reader.readexactly(size)
                    await self._reader.readline()
            left = int(self.headers.get("content-length", "-1"))
            while left:
                data = await asyncio.wait_for(
                    self._reader.read(min(left, PIECE_BYTES) if left > 0 else PIECE_BYTES), stalled_s
                )
                if not data:
                    if left > 0:
                        raise EngineUnreachable("the engine's answer broke off")
                    return
                left -= len(data) if left > 0 else 0
                yield data
        except asyncio.TimeoutError:
            raise EngineUnreachable("the engine sent nothing for %d s" % (stalled_s or 0)) from None
        except (OSError, asyncio.IncompleteReadError, ValueError):
            raise EngineUnreachable("the connection to the engine broke") from None

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def __aenter__(self) -> Exchange:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()


class DockerClient:
    """Every request has a connection of its own: on a local socket that costs less than keeping them in order."""

    def __init__(self, url: str = ""):
        self.url = url or engine_url()
        self._prefix: Optional[str] = None
        self.version = ""

    async def connect(self, deadline_s: float = CONNECT_S) -> None:
        """Find out the engine's version. Raises EngineUnreachable."""
        try:
            data = json.loads(await asyncio.wait_for(self._version(), deadline_s))
            newest, oldest = _api(data["ApiVersion"]), _api(data.get("MinAPIVersion", "1.12"))
        except (asyncio.TimeoutError, ValueError, KeyError, EngineError) as e:
            raise EngineUnreachable("no Docker Engine answers at %s: %s" % (self.url, e or type(e).__name__)) from None
        self.version = str(data.get("Version", ""))
        self._prefix = "/v%d.%d" % max(oldest, min(newest, KNOWN_API))

    async def json(
        self,
        method: str,
        path: str,
        query: Optional[Dict[str, Any]] = None,
        body: Any = None,
        deadline_s: float = ANSWER_S,
    ) -> Any:
        """A whole exchange; None for an empty answer. Raises EngineError, EngineUnreachable."""
        try:
            return await asyncio.wait_for(self._json(method, path, query, body), deadline_s)
        except asyncio.TimeoutError:
            raise EngineUnreachable("the engine did not answer within %d s" % deadline_s) from None

    async def open(
        self,
        method: str,
        path: str,
        query: Optional[Dict[str, Any]] = None,
        body: Any = None,
        file: str = "",
        headers: Optional[Dict[str, str]] = None,
    ) -> Exchange:
        """Send a request and read the answer's head. `file` is the path of a tar to send. Raises like `json`."""
        if self._prefix is None:
            await self.connect()
        return await self._open((self._prefix or "") + path, method, query, body, file, headers)

    async def _version(self) -> bytes:
        async with await self._open("/version", "GET") as exchange:
            return await exchange.body()

    async def _json(self, method: str, path: str, query: Optional[Dict[str, Any]], body: Any) -> Any:
        async with await self.open(method, path, query, body) as exchange:
            data = await exchange.body()
        try:
            return json.loads(data.decode()) if data.strip() else None
        except ValueError:
            return None  # e.g. the plain "OK" of a ping

    async def _open(
        self,
        path: str,
        method: str,
        query: Optional[Dict[str, Any]] = None,
        body: Any = None,
        file: str = "",
        headers: Optional[Dict[str, str]] = None,
    ) -> Exchange:
        data = b"" if body is None else json.dumps(body).encode()
        size = _file_size(file) if file else len(data)
        target = path + ("?" + urlencode(query) if query else "")
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: docker", "Connection: close", "Content-Length: %d" % size]
        lines.append("Content-Type: " + ("application/x-tar" if file else "application/json"))
        lines.extend("%s: %s" % item for item in (headers or {}).items())
        exchange = Exchange(*await self._connection())
        try:
            await exchange_request(exchange, ("\r\n".join(lines) + "\r\n\r\n").encode() + data, file)
            if exchange.status >= 400:
                text = b"" if method == "HEAD" else await exchange.body()
                raise EngineError(exchange.status, _message(text))
            return exchange
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            await exchange.__aexit__()
            raise EngineUnreachable("the connection to the engine at %s broke" % self.url) from None
        except BaseException:
            await exchange.__aexit__()
            raise

    async def _connection(self) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = urlsplit(self.url)
        try:
            if url.scheme == "unix":
                opening = asyncio.open_unix_connection(url.path)
            elif url.scheme in ("tcp", "http", "https"):
                tls = _tls() if url.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY") else None
                opening = asyncio.open_connection(url.hostname, url.port or (2376 if tls else 2375), ssl=tls)
            else:
                raise EngineUnreachable("engines at %s:// are not supported (%s)" % (url.scheme, self.url))
            return await asyncio.wait_for(opening, CONNECT_S)
        except (OSError, ValueError, asyncio.TimeoutError) as e:
            text = getattr(e, "strerror", None) or str(e) or type(e).__name__
            raise EngineUnreachable("no Docker Engine answers at %s: %s" % (self.url, text)) from None


async def exchange_request(exchange: Exchange, head: bytes, file: str) -> None:
    """Send the request (and the file), then read the head of the answer."""
    writer = exchange._writer
    writer.write(head)
    try:
        if file:
            loop = asyncio.get_running_loop()
            with _open_file(file) as f:
                while True:
                    piece = await loop.run_in_executor(None, f.read, PIECE_BYTES)
                    if not piece:
                        break
                    writer.write(piece)
                    await writer.drain()
        await writer.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the engine refused before it took everything: its answer says why
    await exchange.read_head()


def engine_url() -> str:
    """Where the person's engine is: DOCKER_HOST, else the current context's endpoint, else the usual socket."""
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    return _context_endpoint() or _default_socket()


def quoted(name: str) -> str:
    """`name` as one part of a path."""
    return quote(name, safe="")


def _default_socket() -> str:
    paths = [os.path.expanduser(path) for path in DEFAULT_SOCKETS]
    return "unix://" + next((path for path in paths if os.path.exists(path)), paths[0])


def _context_endpoint() -> str:
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    name = os.environ.get("DOCKER_CONTEXT") or _load(os.path.join(folder, "config.json")).get("currentContext", "")
    if not name or name == "default":
        return ""
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = _load(os.path.join(folder, "contexts", "meta", digest, "meta.json"))
    return str(meta.get("Endpoints", {}).get("docker", {}).get("Host", ""))


def _load(path: str) -> Dict[str, Any]:
    try:
        with open(path, "rb") as f:
            data = json.loads(f.read().decode())
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def _file_size(path: str) -> int:
    return os.path.getsize(path)


def _open_file(path: str) -> BinaryIO:
    return open(path, "rb")


def _tls() -> ssl.SSLContext:
    folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    context = ssl.create_default_context(cafile=os.path.join(folder, "ca.pem"))
    context.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
    return context


def _api(text: str) -> Tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body.decode())["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip() or "no reason given"
