"""Bytes on their way through a session, never copied together: what is to be written, and the engine's frames."""

from __future__ import annotations

import os

MAX_PIECES = 64  # at once; the kernel's own limit is higher


class Outgoing:
    """What is still to be written to a descriptor that does not block."""

    def __init__(self, fd: int):
        self.fd = fd
        self.size = 0
        self._pieces: list = []  # bytes or memoryviews

    def put(self, piece) -> None:
        if piece:
            self._pieces.append(piece)
            self.size += len(piece)

    def flush(self) -> None:
        """Write as much as is taken. Raises OSError when nobody takes it any more."""
        while self._pieces:
            try:
                written = os.writev(self.fd, self._pieces[:MAX_PIECES])
            except BlockingIOError:
                return
            self.size -= written
            done = 0
            while done < len(self._pieces) and written >= len(self._pieces[done]):
                written -= len(self._pieces[done])
                done += 1
            del self._pieces[:done]
            if written:
                self._pieces[0] = memoryview(self._pieces[0])[written:]

    def drop(self) -> None:
        self._pieces, self.size = [], 0


class Frames:
    """The engine's way to send two streams as one: frames with 8 bytes of head each, cut anywhere on the way."""

    def __init__(self, output: Outgoing, errors: Outgoing):
        self._streams = (output, errors)
        self._head = b""
        self._left = 0  # of the frame whose head is known
        self._stream = output

    def take(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._left:
                piece = view[: self._left]
                self._stream.put(piece)
                self._left -= len(piece)
                view = view[len(piece) :]
                continue
            missing = 8 - len(self._head)
            self._head += bytes(view[:missing])
            view = view[missing:]
            if len(self._head) == 8:
                self._stream = self._streams[self._head[0] == 2]
                self._left = int.from_bytes(self._head[4:], "big")
                self._head = b""
