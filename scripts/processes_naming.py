"""Print the ids of this user's processes that name a folder in their command line or environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROC = Path("/proc")


def main(folder: str) -> None:
    found = _from_proc(folder) if (PROC / "self" / "stat").exists() else _from_ps(folder)
    # The shell that asks has the folder in its environment, too.
    print("\n".join(str(pid) for pid in sorted(found - _ourselves())))


def _from_proc(folder: str) -> set[int]:
    found = set()
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if folder.encode() in text and _stat(int(entry.name))[0] != "Z":
                found.add(int(entry.name))
        except OSError:  # another user's, or gone meanwhile
            continue
    return found


def _from_ps(folder: str) -> set[int]:
    out = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, text=True, check=True).stdout
    return {int(line.split(None, 1)[0]) for line in out.splitlines() if folder in line}


def _ourselves() -> set[int]:
    """This process and all above it."""
    pids: set[int] = set()
    pid = os.getpid()
    while pid > 1 and pid not in pids:
        pids.add(pid)
        pid = _parent(pid)
    return pids


def _parent(pid: int) -> int:
    if (PROC / "self" / "stat").exists():
        return int(_stat(pid)[1])
    out = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True).stdout
    return int(out.strip() or 0)


def _stat(pid: int) -> list[str]:
    """State, parent and what follows; the name before them may hold anything, brackets included."""
    return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


if __name__ == "__main__":
    main(sys.argv[1])
