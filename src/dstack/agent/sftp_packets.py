"""The words of SFTP version 3: numbers, strings, attributes, and how packets are packed."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time

(INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR) = range(
    1, 15
)
(RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK) = range(15, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = range(6)
OP_UNSUPPORTED = 8

A_SIZE, A_OWNER, A_MODE, A_TIMES, A_EXTENDED = 1, 2, 4, 8, 0x80000000
F_READ, F_WRITE, F_APPEND, F_CREATE, F_TRUNCATE, F_EXCLUSIVE = 1, 2, 4, 8, 16, 32

CODES = {errno.ENOENT: NO_SUCH_FILE, errno.ENOTDIR: NO_SUCH_FILE, errno.EBADF: NO_SUCH_FILE, errno.ELOOP: NO_SUCH_FILE}
CODES.update({errno.EPERM: PERMISSION_DENIED, errno.EACCES: PERMISSION_DENIED, errno.EFAULT: PERMISSION_DENIED})
CODES.update({errno.ENOSYS: OP_UNSUPPORTED, errno.EOPNOTSUPP: OP_UNSUPPORTED})


class BadMessage(Exception):
    """A packet that is not one."""


class Reader:
    """The fields of one packet, one after the other. Raises BadMessage at its end."""

    def __init__(self, data: memoryview):
        self._data = data
        self._at = 0

    def u32(self) -> int:
        return struct.unpack(">I", self._take(4))[0]

    def u64(self) -> int:
        return struct.unpack(">Q", self._take(8))[0]

    def string(self) -> bytes:
        return bytes(self._take(self.u32()))

    def view(self) -> memoryview:
        return self._take(self.u32())

    def attributes(self) -> dict:
        flags, found = self.u32(), {}
        if flags & A_SIZE:
            found["size"] = self.u64()
        if flags & A_OWNER:
            found["owner"] = (self.u32(), self.u32())
        if flags & A_MODE:
            found["mode"] = stat.S_IMODE(self.u32())
        if flags & A_TIMES:
            found["times"] = (self.u32(), self.u32())
        if flags & A_EXTENDED:
            for _ in range(self.u32()):
                self.string()
                self.string()
        return found

    def _take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._data):
            raise BadMessage
        piece = self._data[self._at : end]
        self._at = end
        return piece


def packet(kind: int, number: int, *parts: bytes) -> bytes:
    size = 5 + sum(map(len, parts))
    return b"".join((struct.pack(">IBI", size, kind, number), *parts))


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def status(number: int, code: int, message: str = "") -> bytes:
    return packet(STATUS, number, struct.pack(">I", code), string(message.encode("utf-8", "replace")), string(b""))


def failure(number: int, e: OSError) -> bytes:
    code = CODES.get(e.errno or 0, FAILURE)
    return status(number, code, e.strerror or "Failure")


def attributes(s: os.stat_result) -> bytes:
    return struct.pack(
        ">IQIIIII",
        A_SIZE | A_OWNER | A_MODE | A_TIMES,
        s.st_size,
        s.st_uid & 0xFFFFFFFF,
        s.st_gid & 0xFFFFFFFF,
        s.st_mode,
        int(s.st_atime) & 0xFFFFFFFF,
        int(s.st_mtime) & 0xFFFFFFFF,
    )


def listing(name: bytes, s: os.stat_result) -> bytes:
    """A line as of `ls -l`, which clients show."""
    when = time.strftime(
        "%b %d %H:%M" if time.time() - s.st_mtime < 180 * 86400 else "%b %d  %Y", time.gmtime(s.st_mtime)
    )
    head = "%s %4d %-8d %-8d %10d %s " % (stat.filemode(s.st_mode), s.st_nlink, s.st_uid, s.st_gid, s.st_size, when)
    return head.encode() + name
