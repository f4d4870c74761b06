"""What ends when a person's connection ends.

With a terminal: its session, as the kernel would do it (programs that ignore SIGHUP, `nohup`, stay). Without one: only
processes whose standard input, output or error is still the session's; a server that the session started and that
writes elsewhere stays, which is what editors rely on.
"""

from __future__ import annotations

import os
import signal
import time

from dstack.agent import processes

HANGUP_S = 2.0
TERM_S = 1.0
PAUSE_S = 0.02


def streams_of(pid: int) -> set[str]:
    """The pipes and sockets that are the process's standard streams."""
    found = set()
    for fd in (0, 1, 2):
        try:
            link = os.readlink("/proc/%d/fd/%d" % (pid, fd))
        except OSError:
            continue
        if link.startswith(("pipe:", "socket:")):
            found.add(link)
    return found


def space_of(pid: int) -> str:
    """The process namespace of a process; "" when it is gone."""
    try:
        return os.readlink("/proc/%d/ns/pid" % pid)
    except OSError:
        return ""


def end_holders(streams: set[str], space: str = "", group: int = 0) -> None:
    """End the processes that hold any of `streams`: those of the namespace, or any but this one. SIGTERM, then SIGKILL.

    Where the kernel does not tell who holds what, the process group is ended.
    """
    if not processes.LINUX:
        _signal_group(group)
        return

    def holders() -> list[int]:
        return [
            row.pid
            for row in processes.table().values()
            if row.pid != os.getpid()
            and not row.zombie
            and (not space or space_of(row.pid) == space)
            and streams & streams_of(row.pid)
            and (space or _is_below(row, group))
        ]

    if streams:
        _end(holders, signal.SIGTERM, TERM_S)
        _end(holders, signal.SIGKILL, TERM_S)


def end_terminal(session: int, space: str) -> None:
    """Hang up the terminal session, a number that `processes` knows, in the process namespace `space`."""

    def members(ignoring: bool = False) -> list[int]:
        return [
            row.pid
            for row in processes.table().values()
            if row.session == session
            and not row.zombie
            and space_of(row.pid) == space
            and (ignoring or not _ignores_hangup(row.pid))
        ]

    for pid in members(ignoring=True):
        _signal(pid, signal.SIGHUP)
        _signal(pid, signal.SIGCONT)
    _wait_until_gone(members, HANGUP_S)
    _end(members, signal.SIGTERM, TERM_S)
    _end(members, signal.SIGKILL, TERM_S)


def _end(find, number: int, patience_s: float) -> None:
    for pid in find():
        _signal(pid, number)
    _wait_until_gone(find, patience_s)


def _wait_until_gone(find, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while find() and time.monotonic() < deadline:
        time.sleep(PAUSE_S)


def _is_below(row: processes.Process, group: int) -> bool:
    """Of the session that sshd made for this command: ours, with whatever groups it has."""
    return row.session == os.getsid(0) or row.session == group


def _ignores_hangup(pid: int) -> bool:
    try:
        with open("/proc/%d/status" % pid) as f:
            for line in f:
                if line.startswith("SigIgn:"):
                    return bool(int(line.split()[1], 16) & (1 << (signal.SIGHUP - 1)))
    except (OSError, ValueError):
        pass  # it is gone
    return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it has just ended


def _signal_group(group: int) -> None:
    for number in (signal.SIGHUP, signal.SIGTERM):
        try:
            os.killpg(group, number)
        except OSError:
            return
        time.sleep(PAUSE_S)
