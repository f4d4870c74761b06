"""Into the container's files, and nowhere else: its root, its user, and of root's rights only those over files."""

from __future__ import annotations

import ctypes
import os
import signal

from dstack.agent import processes, sftp
from dstack.agent.enter_command import CannotEnter

PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
LAST_CAPABILITY = 63
CAPABILITIES_V3 = 0x20080522
# What root in a container may do to files, no more: chown, pass over permissions, be the owner, keep set-id bits.
KEPT = (0, 1, 3, 4)


def serve(place: dict) -> int:
    """SFTP on standard input and output, in the task's files. Returns the exit code."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if place["kind"] == "docker":
        if not place["pid"]:
            raise CannotEnter(
                "SFTP into a container needs an agent that is root; `scp -O`, `rsync` and `ssh` copy files here too"
            )
        enter_container(place)
        os.umask(0o022)
    try:
        os.chdir(place["cwd"])
    except OSError:
        pass  # somebody removed it: the root then
    sftp.Server(0, 1, place["home"]).run()
    return 0


def enter_container(place: dict) -> None:
    """Make this process one that sees only the container's files, as the container's user. Raises CannotEnter."""
    libc = ctypes.CDLL(None, use_errno=True)
    "".encode("idna")  # nothing may be imported from the container: what is loaded late is loaded now
    try:
        process = os.open("/proc/%d" % place["pid"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        row = processes.find(place["pid"])
        if row is None or row.start != place["start"]:
            raise OSError
        root = os.open("root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
        os.close(process)
    except OSError:
        raise CannotEnter("the job has ended") from None
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
    os.close(root)
    os.setgroups(place["groups"])
    os.setgid(place["gid"])
    if place["uid"]:
        os.setuid(place["uid"])
    else:
        _keep_few_capabilities(libc)
    _must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _keep_few_capabilities(libc) -> None:
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # unknown to old kernels, which have none
    for number in range(LAST_CAPABILITY + 1):
        if number not in KEPT and libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0):
            break  # the kernel's last one is behind us
    mask = sum(1 << number for number in KEPT)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    _must(libc.capset(header, data))


def _must(result: int) -> None:
    if result:
        raise CannotEnter("the session's rights cannot be given up: %s" % os.strerror(ctypes.get_errno()))
