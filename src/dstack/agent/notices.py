"""The kernel's word that something in a folder was written to (inotify), where it can be had."""

from __future__ import annotations

import os

MODIFIED, MOVED_TO, CREATED = 0x2, 0x80, 0x100
NONBLOCK, CLOEXEC = 0o4000, 0o2000000


class Notices:
    """`fd` can be read from when something has changed since the last `drain`."""

    def __init__(self, fd: int):
        self.fd = fd

    @classmethod
    def of_folder(cls, path: str) -> Notices | None:
        """None where the kernel or this Python does not offer it, or too many watch already."""
        try:
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.inotify_init1(NONBLOCK | CLOEXEC)
        except (ImportError, OSError, AttributeError):
            return None
        if fd < 0:
            return None
        if libc.inotify_add_watch(fd, os.fsencode(path), MODIFIED | MOVED_TO | CREATED) < 0:
            os.close(fd)
            return None
        return cls(fd)

    def drain(self) -> None:
        try:
            os.read(self.fd, 65536)
        except BlockingIOError:
            pass  # told already
