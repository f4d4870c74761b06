"""Words of ours to people: on the terminals of those who are in a task, and in its log among what the job prints."""

from __future__ import annotations

import json
import logging
import os
import stat
from typing import Any, Dict, Optional, Set

from dstack.agent import processes

log = logging.getLogger("dstack.agent")

MARK = "[dstack] "
MAX_CHARACTERS = 500
# In a container that is entered by its engine alone. What PID 1 prints to is the job's log.
SAY = ["sh", "-c", 'printf "%s\\n" "$0" >/proc/1/fd/1']


def line(message: str) -> str:
    """One line without control characters: terminals obey them."""
    plain = "".join(c if c.isprintable() else " " for c in message)
    return MARK + plain[:MAX_CHARACTERS]


def tell_terminals(sessions: Set[int], text: str) -> int:
    """Write to the terminals below the given sshd processes; how many there are."""
    rows = processes.table()
    found = set()
    for pid in sessions:
        for row in processes.descendants(rows, pid):
            terminal = _link("/proc/%d/fd/0" % row.pid)
            if terminal.startswith("/dev/pts/"):
                found.add(terminal)
    for terminal in sorted(found):
        _write(terminal, ("\r\n" + text + "\r\n").encode())
    return len(found)


def tell_log(task_directory: str, place: Optional[Dict[str, Any]], text: str) -> bool:
    """Have the line in the log, as if the job had printed it. False where the job's output is not in reach.

    The log has one writer, which counts what it wrote: so this goes the way of the job's own output.
    """
    pid, start = _job(task_directory, place)
    row = processes.find(pid) if pid else None
    return row is not None and row.start == start and _write("/proc/%d/fd/1" % pid, (text + "\n").encode())


def _job(task_directory: str, place: Optional[Dict[str, Any]]) -> tuple:
    """(number, start) of a process that has the job's output as its own; (0, "") when there is none."""
    if place is not None and place.get("kind") == "docker":
        return place["pid"], place["start"]
    try:
        with open(os.path.join(task_directory, "holder.json")) as f:
            record = json.load(f)
        return int(record.get("job_pid") or 0), str(record.get("job_start") or "")
    except (OSError, ValueError):
        return 0, ""


def _write(path: str, data: bytes) -> bool:
    """Only to a terminal or a pipe, never to a file that a job has put in the place of its output."""
    try:
        if not _is_stream(os.stat(path)):
            return False
        fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _is_stream(os.fstat(fd)) and os.write(fd, data) == len(data)
        finally:
            os.close(fd)
    except OSError as e:
        log.info("nothing can be said at %s: %s", path, e.strerror)
        return False


def _is_stream(found: os.stat_result) -> bool:
    terminal = stat.S_ISCHR(found.st_mode) and 136 <= os.major(found.st_rdev) <= 143
    return terminal or stat.S_ISFIFO(found.st_mode)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""  # it has just ended
