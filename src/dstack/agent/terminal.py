"""Pseudo-terminals that jobs print to: made raw, and read in batches by the process that writes their log."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
import time

BATCH_BYTES = 256 * 1024
BATCH_S = 0.05  # a job that prints a little without end is not read on and on: its log, and orders, would wait
FULL_BYTES = 2048  # read at once: there is more on the way
LINGER_S = 0.002
NAP_S = 0.0003  # in which a job that prints without end fills some reads more
COLUMNS, ROWS = 120, 30


def open_terminal() -> tuple[int, int]:
    """(master, slave), not inherited. It passes bytes on as they were written (no LF to CRLF), and echoes nothing."""
    master, slave = os.openpty()
    mode = termios.tcgetattr(slave)
    mode[1] &= ~termios.OPOST
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.set_blocking(master, False)
    return master, slave


def open_named(name: str) -> int:
    """The side for programs of the terminal that is called so."""
    return os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)


def read_batch(master: int) -> tuple[bytes, bool]:
    """(what was printed, at most about BATCH_BYTES; whether the last program that could print has closed it).

    A job that prints faster than it is read is waited for a little, again and again: the kernel gives FULL_BYTES at a
    time, and what follows a batch (a write, a word to the agent) costs more than reading that.
    """
    pieces = []
    size = 0
    deadline = time.monotonic() + BATCH_S
    while size < BATCH_BYTES and time.monotonic() < deadline:
        try:
            data = os.read(master, 65536)
        except BlockingIOError:
            if pieces and len(pieces[-1]) >= FULL_BYTES and select.select([master], [], [], LINGER_S)[0]:
                continue
            break
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            data = b""
        if not data:
            return b"".join(pieces), True
        pieces.append(data)
        size += len(data)
        if len(data) < FULL_BYTES <= size:
            time.sleep(NAP_S)
    return b"".join(pieces), False
