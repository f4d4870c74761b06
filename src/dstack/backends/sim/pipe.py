"""Connections within this process, without sockets: ten thousand hosts would take as many files as a system has."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


def open_pipe(server: asyncio.Protocol) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A fresh connection to `server`; the client's end of it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    client = asyncio.StreamReaderProtocol(reader, loop=loop)
    ours, theirs = _End(client, loop), _End(server, loop)
    ours.other, theirs.other = theirs, ours
    server.connection_made(theirs)
    client.connection_made(ours)
    return reader, asyncio.StreamWriter(ours, client, reader, loop)


class _End(asyncio.Transport):
    """What is written here is received at the other end, in the loop's next round."""

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop):
        super().__init__()
        self.other: _End | None = None
        self._protocol = protocol
        self._loop = loop
        self._received: deque[bytes] = deque()
        self._paused = False
        self._left = False  # by the other end: nothing follows
        self._closing = False

    def write(self, data: Any) -> None:
        if self.other is not None and not self._closing:
            self._loop.call_soon(self.other._receive, bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)
            if self.other is not None:
                self._loop.call_soon(self.other._leave)

    def abort(self) -> None:
        self.close()

    def _receive(self, data: bytes) -> None:
        self._received.append(data)
        self._deliver()

    def _leave(self) -> None:
        self._left = True
        self._deliver()

    def _deliver(self) -> None:
        while self._received and not self._paused and not self._closing:
            self._protocol.data_received(self._received.popleft())
        if self._left and not self._received:
            self.close()
