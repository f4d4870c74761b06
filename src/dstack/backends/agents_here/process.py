"""Whether an instance's agent process lives, told by the lock that it holds; and its end."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

STOP_S = 5.0
STEP_S = 0.02


def alive(folder: Path) -> bool:
    """The agent holds an exclusive lock on `agent.lock` as long as it lives; a pid alone could be another's."""
    try:
        fd = os.open(folder / "agent.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def stop(folder: Path) -> None:
    """End the agent: asked first, then killed. Returns when its lock is free."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = _pid(folder)
        if not alive(folder):
            return
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
        deadline = time.monotonic() + STOP_S
        while alive(folder) and time.monotonic() < deadline:
            time.sleep(STEP_S)


def _pid(folder: Path) -> int:
    """The pid that the holder of the lock wrote; 0 while it is not there yet."""
    try:
        return int((folder / "agent.pid").read_text())
    except (FileNotFoundError, ValueError):
        return 0
