"""A job's terminal from hand to hand: an agent that was started after the job asks the keeper for it.

The order `give` makes the keeper send the master to a socket in the task's folder. With the agent as one more who has
it, the terminal outlives the death of all its keepers.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import socket
import struct
from typing import Callable

from dstack.agent.docker_keeper import INBOX

GIVEN_S = 60.0  # a keeper has a disk to wait for, maybe; one of before this order never answers
TIOCGPTN = 0x80045430


async def ask(directory: str, terminal: str, order: Callable[[bytes], bool]) -> int:
    """A descriptor of the master of `terminal`, -1 when nobody gives it. `order` is the keeper's. Raises OSError."""
    folder = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        inbox.setblocking(False)
        _unlink(folder)  # of an agent that died
        inbox.bind("/proc/self/fd/%d/%s" % (folder, INBOX))  # an address holds about 100 bytes, folders may be deeper
        if not order(b"give") or not await _readable(inbox):
            return -1
        return _master_of(terminal, _received(inbox))
    finally:
        inbox.close()
        _unlink(folder)
        os.close(folder)


async def _readable(inbox: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    loop.add_reader(inbox, lambda: came.done() or came.set_result(None))
    try:
        await asyncio.wait([came], timeout=GIVEN_S)
        return came.done()
    finally:
        loop.remove_reader(inbox)
        came.cancel()


def _received(inbox: socket.socket) -> int:
    fds = array.array("i")
    _, ancillary, _, _ = inbox.recvmsg(1, socket.CMSG_LEN(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) // fds.itemsize * fds.itemsize])
    return fds[0] if fds else -1


def _master_of(terminal: str, fd: int) -> int:
    """`fd`, or -1 when it is something else."""
    if fd < 0:
        return -1
    try:
        number = struct.unpack("I", fcntl.ioctl(fd, TIOCGPTN, b"\0" * 4))[0]
    except OSError:
        number = -1
    if terminal == "/dev/pts/%d" % number:
        return fd
    os.close(fd)
    return -1


def _unlink(folder: int) -> None:
    try:
        os.unlink(INBOX, dir_fd=folder)
    except FileNotFoundError:
        pass
