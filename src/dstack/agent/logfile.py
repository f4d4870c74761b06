"""A task's log on disk: raw bytes, an index of when they were written, and the hourly quota.

`log` holds the bytes exactly as printed. `log.idx` holds records of 16 bytes: big-endian offset (int64) and instant
(float64); a record says that the bytes from its offset on were written then. The holder imports this module, so it
stays free of imports that cost milliseconds.
"""

from __future__ import annotations

import errno
import os
import struct

RECORD = struct.Struct(">qd")
# Finer instants are not kept: a job that prints single characters must not make the index bigger than the log.
RESOLUTION_S = 0.01
SET_BACK_MINUTES = 5  # by less, output only came late
NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Quota:
    """Bytes that may still be written within any 60 minutes (kept by the minute); a limit of 0 allows everything."""

    def __init__(self, limit_bytes: int):
        self.limit_bytes = limit_bytes
        self._minutes: list[list[int]] = []  # [minute, bytes], ascending
        self._used = 0

    def take(self, size: int, now: float) -> int:
        """How many of `size` bytes may be written at `now`; counts them."""
        if not self.limit_bytes:
            return size
        minute = self._minute(now)
        while self._minutes and self._minutes[0][0] <= minute - 60:
            self._used -= self._minutes.pop(0)[1]
        allowed = max(0, min(size, self.limit_bytes - self._used))
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, 0])
        self._minutes[-1][1] += allowed
        self._used += allowed
        return allowed

    def _minute(self, now: float) -> int:
        """Never before the last one. When the clock was set back, so are the minutes that are counted: else they would
        count until it has come as far again."""
        minute = int(now // 60)
        if not self._minutes or minute >= self._minutes[-1][0]:
            return minute
        back = self._minutes[-1][0] - minute
        if back <= SET_BACK_MINUTES:
            return minute + back
        for counted in self._minutes:
            counted[0] -= back
        return minute

    @property
    def message(self) -> str:
        return "Job log output exceeded the hourly quota of %d bytes" % self.limit_bytes


class LogWriter:
    """Appends to `log` and `log.idx` in a folder. One writer at a time, for good."""

    def __init__(self, directory: str, lost: int = 0):
        """`lost`: of the writer before this one, not told yet."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(os.path.join(directory, "log"), flags, 0o600)
        self._index = os.open(os.path.join(directory, "log.idx"), flags, 0o600)
        self.size = os.fstat(self._log).st_size
        self.index_size = os.fstat(self._index).st_size
        self._last_mark = -1.0
        self.lost = lost  # bytes for which there was no room, not told yet

    def truncate(self, size: int, index_size: int) -> None:
        """Forget what was written beyond the lengths that the caller had committed."""
        self.size = min(size, self.size)
        self.index_size = min(index_size, self.index_size) // RECORD.size * RECORD.size
        os.ftruncate(self._log, self.size)
        os.ftruncate(self._index, self.index_size)

    def write(self, data: bytes, at: float) -> None:
        """Append. Bytes for which the disk has no room are counted, and told in the log as soon as it has."""
        written = self._append(data, at) if self._told(at) else 0
        self.lost += len(data) - written

    def finish(self, at: float) -> None:
        """Nothing more will come. `lost` is then 0, or there is no room for the word of it either."""
        self._told(at)
        self.sync()

    def sync(self) -> None:
        try:
            os.fsync(self._log)
            os.fsync(self._index)
        except OSError:
            pass  # a file system without fsync, or a full one: the bytes are with the kernel at least

    def close(self) -> None:
        os.close(self._log)
        os.close(self._index)

    def _told(self, at: float) -> bool:
        """False when something was lost and the log has no room for the word of it."""
        if not self.lost:
            return True
        before = self.size, self.index_size
        line = b"\n[dstack] %s\n" % lost_words(self.lost).encode()
        if self._append(line, at) < len(line):
            self.truncate(*before)
            return False
        self.lost = 0
        return True

    def _append(self, data: bytes, at: float) -> int:
        offset = self.size
        view = memoryview(data)
        try:
            while view:
                n = os.write(self._log, view)
                self.size += n
                view = view[n:]
        except OSError as e:
            if e.errno not in NO_SPACE:
                raise
        if self.size > offset and abs(at - self._last_mark) >= RESOLUTION_S:  # clocks also go back
            self._mark(offset, at)
        return self.size - offset

    def _mark(self, offset: int, at: float) -> None:
        try:
            self.index_size += os.write(self._index, RECORD.pack(offset, at))
            self._last_mark = at
        except OSError as e:
            if e.errno not in NO_SPACE:
                raise
        if self.index_size % RECORD.size:  # a torn record would shift all that follow
            self.index_size -= self.index_size % RECORD.size
            os.ftruncate(self._index, self.index_size)


def lost_words(count: int) -> str:
    return "%d bytes of log were lost: the disk was full" % count


def note(directory: str, words: str, at: float) -> bool:
    """Say something at the end of a log that nobody writes any more, once; False when that is not possible."""
    line = ("[dstack] %s\n" % words).encode()
    try:
        end = read(directory, max(0, size(directory) - len(line)), len(line))
        if end == line:
            return True
        writer = LogWriter(directory)
    except OSError:
        return False
    try:
        before = writer.size, writer.index_size
        writer.write(line if end.endswith(b"\n") or not end else b"\n" + line, at)
        if writer.lost:
            writer.truncate(*before)
        return not writer.lost
    except OSError:
        return False
    finally:
        writer.close()


def read(directory: str, offset: int, limit: int) -> bytes:
    """At most `limit` bytes from `offset` on; b"" at the end and when there is no log yet."""
    try:
        with open(os.path.join(directory, "log"), "rb") as f:
            f.seek(offset)
            return f.read(limit)
    except FileNotFoundError:
        return b""


def size(directory: str) -> int:
    try:
        return os.stat(os.path.join(directory, "log")).st_size
    except OSError:
        return 0


def marks(directory: str, offset: int, end: int, limit: int) -> list[tuple[int, float]]:
    """When the bytes in [offset, end) were written: (offset from `offset` on, instant), ascending, at most `limit`."""
    try:
        with open(os.path.join(directory, "log.idx"), "rb") as f:
            count = os.fstat(f.fileno()).st_size // RECORD.size
            first = max(0, _first_after(f, count, offset) - 1)  # the record that covers `offset` itself
            last = _first_after(f, count, end - 1)
            f.seek(first * RECORD.size)
            rows = list(RECORD.iter_unpack(f.read((last - first) * RECORD.size)))
    except FileNotFoundError:
        return []
    step = max(1, -(-len(rows) // limit))
    return [(max(0, at - offset), when) for at, when in rows[::step]]


def written_since(directory: str, instant: float) -> int:
    """How many bytes were written after `instant`, as far as the index tells."""
    try:
        with open(os.path.join(directory, "log.idx"), "rb") as f:
            low, high = 0, os.fstat(f.fileno()).st_size // RECORD.size
            count = high
            while low < high:
                middle = (low + high) // 2
                f.seek(middle * RECORD.size)
                if RECORD.unpack(f.read(RECORD.size))[1] <= instant:
                    low = middle + 1
                else:
                    high = middle
            if low == count:
                return 0
            f.seek(low * RECORD.size)
            return max(0, size(directory) - RECORD.unpack(f.read(RECORD.size))[0])
    except FileNotFoundError:
        return 0


def _first_after(f, count: int, offset: int) -> int:
    """Number of the first record whose offset is greater than `offset`."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        f.seek(middle * RECORD.size)
        if RECORD.unpack(f.read(RECORD.size))[0] <= offset:
            low = middle + 1
        else:
            high = middle
    return low
