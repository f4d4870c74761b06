"""HTTP to one dstack server: one kept-alive connection, deadlines, retries, typed errors."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

from dstack import __version__
from dstack.api.refusals import TOKEN_HINT, refusal
from dstack.errors import DstackError, InvalidCredentials, ServerUnreachable, UsageError

RETRY_DELAYS_S = (0.1, 0.3, 0.8)
STREAM_SILENCE_S = 35.0  # the server sends a heartbeat every 10 s

Progress = Callable[[int], None]  # hears how many bytes have been sent
PIECE = 256 * 1024


class _Pieces:
    """A body that is sent piece by piece, again from the start when it is iterated again."""

    def __init__(self, before: bytes, data: bytes, after: bytes, progress: Progress):
        self._before, self._data, self._after = before, memoryview(data), after
        self._progress = progress

    def __len__(self) -> int:
        return len(self._before) + len(self._data) + len(self._after)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._before
        for start in range(0, len(self._data), PIECE):
            yield self._data[start : start + PIECE]
            self._progress(min(start + PIECE, len(self._data)))
        yield self._after


Body = bytes | _Pieces

_Broken = (OSError, http.client.HTTPException)


class Transport:
    """Not for use by two threads at once: `fork` gives another connection to the same server."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 30.0, sleep: Callable[[float], None] = time.sleep):
        parts = _split(url)
        if not token.isascii() or not token.isprintable():
            raise InvalidCredentials("The token holds characters that no token has", hint=TOKEN_HINT)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._parts = parts
        self._token = token
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None

    def fork(self) -> Transport:
        """The same server and token over a connection of its own."""
        return Transport(self.url, self._token, timeout_s=self._timeout_s, sleep=self._sleep)

    def close(self) -> None:
        """End the connection; a call that waits in another thread ends with ServerUnreachable."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster
        connection.close()

    def call(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        idempotent: bool = True,
        timeout_s: float | None = None,
    ) -> Any:
        """The decoded JSON answer of one call that ends within `timeout_s` seconds.

        Connection errors are tried again when nothing can have happened twice. Raises the errors of `dstack.errors`.
        """
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        return self._exchange(method, path, data, headers, idempotent, timeout_s or self._timeout_s)

    def upload(
        self, path: str, filename: str, data: bytes, timeout_s: float = 300.0, progress: Progress | None = None
    ) -> Any:
        """Send `data` as the multipart part `file`; an upload has no effect when it is done twice."""
        boundary = f"dstack-{filename[:32]}-boundary"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        before = f"{head}Content-Type: application/x-tar\r\n\r\n".encode()
        body = _Pieces(before, data, f"\r\n--{boundary}--\r\n".encode(), progress or (lambda _: None))
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(len(body))}
        return self._exchange("POST", path, body, headers, True, timeout_s)

    def stream(self, path: str, body: Any, silence_s: float = STREAM_SILENCE_S) -> Iterator[bytes]:
        """The lines of an answer as they come; no line for `silence_s` seconds is a lost connection."""
        self.close()
        try:
            connection = self._connect(silence_s)
            connection.request(
                "POST", self._path(path), json.dumps(body).encode(), self._headers({"Content-Type": "application/json"})
            )
            response = connection.getresponse()
            if response.status >= 400:
                raise refusal(self.url, path, response.status, response.read())
            while line := response.readline():
                yield line
        except _Broken as error:
            raise self._unreachable(error) from error
        finally:
            self.close()

    def _exchange(
        self, method: str, path: str, data: Body, headers: dict[str, str], idempotent: bool, timeout_s: float
    ) -> Any:
        if not idempotent:
            self.close()  # on a connection that was kept alive nobody knows whether a lost request was carried out
        for delay_s in (*RETRY_DELAYS_S, None):
            sent = False
            try:
                connection = self._connection or self._connect(timeout_s)
                sent = True
                return self._once(connection, method, path, data, headers, time.monotonic() + timeout_s)
            except DstackError:
                raise
            except _Broken as error:
                self.close()
                if delay_s is None or isinstance(error, TimeoutError) or (sent and not idempotent):
                    raise self._unreachable(error) from error
                self._sleep(delay_s)
            except BaseException:
                self.close()  # interrupted in the middle: what comes next on this connection belongs to nobody
                raise
        raise AssertionError("the last attempt returns or raises")

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=timeout_s)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        return connection

    def _once(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        data: Body,
        headers: dict[str, str],
        deadline: float,
    ) -> Any:
        connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
        connection.request(method, self._path(path), data, self._headers(headers))
        response = connection.getresponse()
        content = self._read(connection, response, deadline)
        if response.will_close:
            self.close()
        if response.status >= 400:
            raise refusal(self.url, path, response.status, content)
        return self._decode(path, content)

    def _read(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: float
    ) -> bytes:
        """The body; a server that sends one byte a second does not outlive the deadline."""
        pieces = []
        while True:
            if connection.sock is not None:
                connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
            piece = response.read1(1 << 20)
            if not piece:
                if response.length:
                    raise http.client.IncompleteRead(b"".join(pieces), response.length)
                response.close()  # else the connection takes it for unread
                return b"".join(pieces)
            if time.monotonic() > deadline:
                raise TimeoutError("the answer did not end in time")
            pieces.append(piece)

    def _decode(self, path: str, content: bytes) -> Any:
        try:
            return json.loads(content) if content else None
        except ValueError:
            raise DstackError(
                f"{self.url} answered {path} with something that is not JSON",
                hint="is this a dstack server? check the address",
            ) from None

    def _path(self, path: str) -> str:
        return self._parts.path.rstrip("/") + path

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._token}",
            "X-API-VERSION": __version__,
            "User-Agent": f"dstack/{__version__}",
            "Accept-Encoding": "identity",
            **more,
        }

    def _unreachable(self, error: BaseException) -> ServerUnreachable:
        if isinstance(error, TimeoutError):
            return ServerUnreachable(
                f"dstack server {self.url} did not answer in time",
                hint="is it overloaded? try again, or look at its log",
            )
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
            return ServerUnreachable(
                f"{self.url} does not answer in HTTP", hint="is this a dstack server? check the address"
            )
        if "WRONG_VERSION_NUMBER" in str(error):
            return ServerUnreachable(
                f"{self.url} does not answer in HTTPS",
                hint=f"the server speaks plain HTTP there: http://{self._parts.netloc}",
            )
        why = {ConnectionRefusedError: "connection refused", http.client.RemoteDisconnected: "it closed the connection"}
        why[http.client.IncompleteRead] = "the connection broke in the middle of its answer"
        reason = why.get(type(error)) or getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServerUnreachable(
            f"Failed to connect to dstack server {self.url} ({reason})",
            hint="is the server running? `dstack server` starts one; `dstack project list -v` shows what is configured",
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return parts
    except ValueError:
        pass  # told below, as any other address that is none
    raise UsageError(f"{url!r} is not the address of a server", hint="expected for instance http://127.0.0.1:3000")
