"""A client of a websocket that listens only, without a library: what comes is compared byte by byte."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct

PATIENCE_S = 60.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE, PING = 2, 8, 9


class Refused(Exception):
    def __init__(self, status: int):
        super().__init__(str(status))
        self.status = status


class Closed(Exception):
    """The other side broke off without a word."""


class Reader:
    def __init__(self, port: int, target: str, *, upgrade: bool = True):
        """Raises Refused, Closed, OSError."""
        self._stream = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._data = b""
        self._text = b""
        key = base64.b64encode(os.urandom(16))
        asks = [f"GET {target} HTTP/1.1".encode(), b"Host: localhost"]
        if upgrade:
            asks += [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"]
            asks += [b"Sec-WebSocket-Key: " + key]
        try:
            self._stream.sendall(b"\r\n".join(asks) + b"\r\n\r\n")
            while b"\r\n\r\n" not in self._data:
                self._receive()
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            status = int(head.split()[1])
            if status != 101:
                raise Refused(status)
            assert base64.b64encode(hashlib.sha1(key + GUID).digest()) in head
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()

    def until(self, text: bytes) -> bytes:
        """Everything up to and with `text`."""
        while text not in self._text:
            assert self._message(), f"it ended with {self._text!r}"
        found, _, self._text = self._text.partition(text)
        return found + text

    def rest(self) -> bytes:
        """Everything up to the end that the server tells."""
        while self._message():
            pass
        return self._text

    def _message(self) -> bool:
        """False at the server's end."""
        first, second = self._exactly(2)
        size = second
        if second == 126:
            (size,) = struct.unpack(">H", self._exactly(2))
        elif second == 127:
            (size,) = struct.unpack(">Q", self._exactly(8))
        data = self._exactly(size)
        assert first & 0x80 and first & 0x0F in (BINARY, CLOSE, PING)
        if first & 0x0F == BINARY:
            self._text += data
        return first & 0x0F != CLOSE

    def _exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            self._receive()
        found, self._data = self._data[:size], self._data[size:]
        return found

    def _receive(self) -> None:
        more = self._stream.recv(65536)
        if not more:
            raise Closed
        self._data += more
