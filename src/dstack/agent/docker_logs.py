"""A container's output into the task's log: from the engine's json-file where it can be read, else through the API.

What was taken is committed to the file `log.pos` after the bytes are in the log; after a crash the log is cut to the
committed length and reading goes on from the committed position, so no byte is lost or doubled.
"""

from __future__ import annotations

import calendar
import itertools
import json
import os
import struct
import time
import zlib
from typing import Any, Dict, List, Optional, Tuple

from dstack.agent import logfile
from dstack.agent.logfile import LogWriter, Quota

STEP_BYTES = 256 * 1024  # parsed in one go: some milliseconds, so that the agent goes on answering
POSITION = struct.Struct(
    ">QQQQB"
)  # inode, offset in that file, log length, index length, a carriage return is held back
MARK = struct.Struct(">QI")  # behind it: the offset again, and a sum of what stands before it in that file
MARK_BYTES = 256
END = struct.Struct(">QB")  # behind that: bytes lost to a full disk and not told yet, and the flags below
END_AT = POSITION.size + MARK.size
WHOLE, CUT = 1, 2  # all there will be was taken; what came before a new start of the keeper may be missing
GAP = (
    b"[dstack] An unknown number of bytes of log were lost: the job printed more than the engine keeps (%d MB) unread\n"
)
SAME_MOMENT = len("2026-01-02T03:04:05.12")  # what of a time tells it to 0.01 s
MAX_FILES, FILE_MB = 5, 20
KEPT = {"max-size": "%dm" % FILE_MB, "max-file": str(MAX_FILES)}
LOG_CONFIG = {"Type": "json-file", "Config": KEPT}
# What nobody here may read as a file: it is asked for, and this form keeps bytes that are no UTF-8 as they are.
UNREAD_LOG_CONFIG = {"Type": "local", "Config": {**KEPT, "compress": "false"}}


class LogSink:
    """Writes output into the task's log, within the quota, and keeps the committed position.

    The container's terminal turns LF into CRLF; the sink turns it back, so that the log holds what the program wrote.
    """

    def __init__(self, directory: str, quota_bytes_per_hour: int):
        self._fd = os.open(os.path.join(directory, "log.pos"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stored = os.pread(self._fd, END_AT + END.size, 0)
        lost, self._flags = _end_of(stored) or (0, 0)
        self._log = LogWriter(directory, lost)
        self.inode, self.offset, size, index_size, held = (
            POSITION.unpack_from(stored) if len(stored) >= POSITION.size else (0, 0, 0, 0, 0)
        )
        self.mark = _mark_of(stored[POSITION.size :], self.offset)  # 0: not known
        self._held = b"\r" if held else b""
        self._log.truncate(size, index_size)
        self.quota = Quota(quota_bytes_per_hour)
        self.quota.take(logfile.written_since(directory, time.time() - 3600.0), time.time())
        self.over_quota = False
        self._flags &= ~WHOLE
        self.commit(self.inode, self.offset, self.mark)  # room for it is taken while there is some

    @property
    def lost(self) -> int:
        """Bytes for which the disk had no room and which are not told in the log."""
        return self._log.lost

    def write(self, data: bytes, at: float) -> None:
        data = (self._held + data).replace(b"\r\n", b"\n")
        self._held = b""
        if data.endswith(b"\r"):  # its LF may be in the next piece
            data, self._held = data[:-1], b"\r"
        self._put(data, at)

    def take(self, data: bytes, at: float) -> None:
        """Write and commit what a terminal of our own gave, which is what the program wrote."""
        self._put(data, at)
        self.commit(self.inode, self.offset, self.mark)

    def note_gap(self, at: float) -> None:
        self._put(b"\n" + GAP % (MAX_FILES * FILE_MB), at)

    def commit(self, inode: int, offset: int, mark: int = 0) -> None:
        self.inode, self.offset, self.mark = inode, offset, mark
        record = POSITION.pack(inode, offset, self._log.size, self._log.index_size, bool(self._held))
        record += MARK.pack(offset, mark) + END.pack(self._log.lost, self._flags)
        try:
            os.pwrite(self._fd, record, 0)
        except OSError as e:
            if e.errno not in logfile.NO_SPACE:
                raise

    def finish(self) -> None:
        """Nothing more will come."""
        if self._held:
            held, self._held = self._held, b""
            self._put(held, time.time())
        self._log.finish(time.time())
        self._flags |= WHOLE
        self.commit(self.inode, self.offset, self.mark)

    def close(self) -> None:
        self._log.close()
        os.close(self._fd)

    def _put(self, data: bytes, at: float) -> None:
        if self.over_quota or not data:
            return
        allowed = self.quota.take(len(data), at)
        self._log.write(data[:allowed], at)
        self.over_quota = allowed < len(data)


def end_of(directory: str) -> Optional[Tuple[int, int]]:
    """(bytes lost and not told, flags) as the log's writer left them; None before the first, or of one of before."""
    try:
        with open(os.path.join(directory, "log.pos"), "rb") as f:
            return _end_of(f.read(END_AT + END.size))
    except FileNotFoundError:
        return None


def set_flags(directory: str, flags: int) -> None:
    """To be called while nobody writes the log."""
    lost, _ = end_of(directory) or (0, 0)
    fd = os.open(os.path.join(directory, "log.pos"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, END.pack(lost, flags), END_AT)
    except OSError as e:
        if e.errno not in logfile.NO_SPACE:
            raise
    finally:
        os.close(fd)


class JsonFileTail:
    """Follows the engine's log file and its rotations.

    Files that are still to be read are held open: the engine may rename and delete them meanwhile. A gap can only come
    about while no agent runs.
    """

    def __init__(self, path: str, sink: LogSink):
        self._path = path
        self._sink = sink
        self._files: List[Tuple[int, int]] = []  # (inode, descriptor), oldest first; the first one is being read
        self._rest = b""
        self._offset = 0  # how far the first file was read, `_rest` included
        self._clock = _EngineClock()
        self._resume()

    @staticmethod
    def readable(path: str) -> bool:
        return bool(path) and os.access(path, os.R_OK)

    def step(self) -> bool:
        """Take a piece; False when there was nothing to take."""
        self._scan()
        if not self._files:
            return False
        more_files = len(self._files) > 1
        inode, fd = self._files[0]
        data = os.pread(fd, STEP_BYTES, self._offset)
        if data:
            self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._take(lines)
            position = self._offset - len(self._rest)
            self._sink.commit(inode, position, _sum_before(fd, position))
            return True
        if more_files:  # nobody writes to this one any more, and it was empty after its successor was seen
            os.close(fd)
            self._files.pop(0)
            self._offset, self._rest = 0, b""
            self._sink.commit(self._files[0][0], 0)
            return True
        return False

    def close(self) -> None:
        for _, fd in self._files:
            os.close(fd)
        self._files = []

    def _resume(self) -> None:
        """Find the file that was being read when an earlier agent died."""
        self._scan()
        wanted, offset = self._sink.inode, self._sink.offset
        if not wanted:
            return
        inodes = [inode for inode, _ in self._files]
        if wanted in inodes and self._was_read(self._files[inodes.index(wanted)][1], offset):
            for _ in range(inodes.index(wanted)):
                os.close(self._files.pop(0)[1])
            self._offset = offset
        elif self._files:
            self._sink.note_gap(time.time())
            self._sink.commit(self._files[0][0], 0)

    def _was_read(self, fd: int, offset: int) -> bool:
        """Whether it is the file that was being read: the engine's files get the numbers of those that it deleted."""
        return _line_ends_at(fd, offset) and self._sink.mark in (0, _sum_before(fd, offset))

    def _scan(self) -> None:
        """Open files that are new since the last look, in the order in which they were written."""
        try:
            if self._files and os.stat(self._path).st_ino == self._files[-1][0]:
                return
        except FileNotFoundError:
            return
        found = self._listing()
        while True:  # until no rotation came in between
            again = self._listing()
            if [inode for inode, _ in found] == [inode for inode, _ in again]:
                break
            _close_all(found)
            found = again
        _close_all(again)
        known = [inode for inode, _ in self._files]
        last = max((n for n, (inode, _) in enumerate(found) if inode in known), default=-1)
        _close_all(found[: last + 1])  # open already, or read to the end before
        never_read = not known and not self._sink.inode
        if (known and last < 0 and found) or (never_read and len(found) >= MAX_FILES):  # as many as are kept: or more
            self._sink.note_gap(time.time())
        self._files.extend(found[last + 1 :])

    def _listing(self) -> List[Tuple[int, int]]:
        found = []
        names = ["%s.%d" % (self._path, n) for n in range(MAX_FILES, 0, -1)] + [self._path]
        for name in names:
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            found.append((os.fstat(fd).st_ino, fd))
        return found

    def _take(self, lines: List[bytes]) -> None:
        """Lines of one moment go into the log together: one record in the index for them."""
        for _, group in itertools.groupby(_entries(lines), key=lambda entry: entry[1][:SAME_MOMENT]):
            together = list(group)
            data = "".join([text for text, _ in together]).encode("utf-8", "replace")
            self._sink.write(data, self._clock.instant(together[0][1]))


class _EngineClock:
    """Reads `2026-01-02T03:04:05.123456789Z`; most lines share their second with the one before."""

    def __init__(self) -> None:
        self._text = "none yet"
        self._second = 0

    def instant(self, text: str) -> float:
        if text[:19] != self._text:
            self._second = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
            self._text = text[:19]
        fraction = text[19:].rstrip("Z")
        return self._second + (float(fraction) if fraction.startswith(".") else 0.0)


def instant(text: str) -> Optional[float]:
    """An engine's time as seconds since the epoch; None for "never" (year 1) and for what is no time."""
    try:
        return _EngineClock().instant(text) if not text.startswith("0001") else None
    except ValueError:
        return None


def _entries(lines: List[bytes]) -> List[Tuple[str, str]]:
    """(what was printed, when) of each line; what the engine left torn when it was killed is left out."""
    try:
        found = [(entry["log"], entry["time"]) for entry in json.loads(b"[%s]" % b",".join(lines))]
        if len(found) == len(lines) and _is_text(found):  # else two torn lines make one that looks whole
            return found
    except (ValueError, KeyError, TypeError):
        pass  # one by one, then
    whole = []
    for line in lines:
        try:
            entry: Dict[str, Any] = json.loads(line)
            found = [(entry["log"], entry["time"])]
        except (ValueError, KeyError, TypeError):
            continue
        whole += found if _is_text(found) else []
    return whole


def _is_text(entries: List[Tuple[str, str]]) -> bool:
    return all(isinstance(text, str) and isinstance(at, str) and at[10:11] == "T" for text, at in entries)


def _line_ends_at(fd: int, offset: int) -> bool:
    return offset == 0 or os.pread(fd, 1, offset - 1) == b"\n"


def _sum_before(fd: int, offset: int) -> int:
    """Of the bytes before `offset`, which hold a line's instant; never 0."""
    count = min(offset, MARK_BYTES)
    return zlib.crc32(os.pread(fd, count, offset - count)) or 1


def _mark_of(stored: bytes, offset: int) -> int:
    """0 where an agent of before wrote the position and not the mark."""
    if len(stored) < MARK.size:
        return 0
    of, mark = MARK.unpack_from(stored)
    return mark if of == offset else 0


def _end_of(stored: bytes) -> Optional[Tuple[int, int]]:
    return END.unpack_from(stored, END_AT) if len(stored) >= END_AT + END.size else None


def _close_all(files: List[Tuple[int, int]]) -> None:
    for _, fd in files:
        os.close(fd)
