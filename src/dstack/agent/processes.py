"""What the kernel says about processes: who they are, whose children, and what they use. Linux and macOS forms.

The holder imports this module, so it stays free of imports that cost milliseconds (typing, re, subprocess).
"""

from __future__ import annotations

import os
import sys

LINUX = sys.platform.startswith("linux")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


class Process:
    """One row of the process table. `cpu_us` includes children that ended and were waited for."""

    __slots__ = ("cpu_us", "parent", "pid", "rss_bytes", "session", "start", "zombie")

    def __init__(self, pid: int, parent: int, session: int, start: str, rss_bytes: int, cpu_us: int, zombie: bool):
        self.pid = pid
        self.parent = parent
        self.session = session
        self.start = start
        self.rss_bytes = rss_bytes
        self.cpu_us = cpu_us
        self.zombie = zombie


def find(pid: int) -> Process | None:
    """The process with this number, or None. (pid, start, boot id) together never name another one."""
    if LINUX:
        try:
            with open("/proc/%d/stat" % pid, "rb") as f:
                return _from_stat(f.read())
        except (OSError, ValueError, IndexError):
            return None
    return _ps("-p", str(pid)).get(pid)


def table() -> dict[int, Process]:
    """All processes that may be seen, by pid."""
    if not LINUX:
        return _ps("-ax")
    rows = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            row = find(int(name))
            if row is not None:
                rows[row.pid] = row
    return rows


def descendants(rows: dict[int, Process], root: int) -> list[Process]:
    """Children of `root`, their children and so on; zombies included, `root` not."""
    children: dict[int, list[Process]] = {}
    for row in rows.values():
        children.setdefault(row.parent, []).append(row)
    found = []
    todo = [root]
    while todo:
        for child in children.pop(todo.pop(), []):
            found.append(child)
            todo.append(child.pid)
    return found


def memory_bytes(rows: list[Process], suspicious_above: int = 0) -> int:
    """Resident memory of `rows` together.

    Pages that forked workers share are counted once for each of them, which would kill an innocent data loader: when
    the sum is above `suspicious_above` (> 0), it is taken again from the kernel's proportional figures, which are dear.
    """
    total = sum(row.rss_bytes for row in rows)
    if not suspicious_above or total <= suspicious_above or not LINUX:
        return total
    return sum(_proportional_bytes(row) for row in rows)


def boot_id() -> str:
    """Changes with each boot of the machine."""
    if LINUX:
        try:
            with open("/proc/sys/kernel/random/boot_id") as f:
                return f.read().strip()
        except OSError:
            return ""
    return _output(["sysctl", "-n", "kern.bootsessionuuid"]).strip()


def _from_stat(line: bytes) -> Process:
    # The name in parentheses may itself hold spaces and parentheses: count from the last one.
    head, _, tail = line.rpartition(b")")
    f = tail.split()
    return Process(
        pid=int(head.split(b" ", 1)[0]),
        parent=int(f[1]),
        session=int(f[3]),
        start=f[19].decode(),
        rss_bytes=int(f[21]) * PAGE_BYTES,
        cpu_us=(int(f[11]) + int(f[12]) + int(f[13]) + int(f[14])) * TICK_US,
        zombie=f[0] == b"Z",
    )


def _proportional_bytes(row: Process) -> int:
    try:
        with open("/proc/%d/smaps_rollup" % row.pid, "rb") as f:
            for line in f:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # an older kernel, or the process is gone: the plain figure is the best there is
    return row.rss_bytes


def _ps(*selection: str) -> dict[int, Process]:
    columns = "pid=,ppid=,pgid=,rss=,stat=,time=,lstart="
    rows = {}
    for line in _output(["ps", "-o", columns, *selection]).splitlines():
        f = line.split(None, 6)
        try:
            pid = int(f[0])
            rows[pid] = Process(pid, int(f[1]), int(f[2]), f[6], int(f[3]) * 1024, _clock_us(f[5]), f[4][0] == "Z")
        except (ValueError, IndexError):
            continue  # a line that is no process
    return rows


def _clock_us(text: str) -> int:
    """`ps` time, [[hours:]minutes:]seconds[.fraction], in microseconds."""
    seconds = 0.0
    for part in text.replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)
    return int(seconds * 1_000_000)


def _output(argv: list[str]) -> str:
    import subprocess  # only on machines without /proc

    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")
