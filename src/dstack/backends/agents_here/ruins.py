"""Ends what an agent left that cannot be started any more, by what lies in its folder, and verifies that it ended.

The jobs of the process runtime have a holder each, which takes orders from the FIFO `control` whether or not an agent
lives, and has the other end of the FIFO `wake` as long as it lives itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from dstack.agentapi.wire import DOCKER, ENDED
from dstack.backends.errors import BackendError

PATIENCE_S = 20.0
STEP_S = 0.05
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


async def end_jobs(folder: Path) -> None:
    """Raises BackendError when a job stays, or when only its engine could tell."""
    for task in sorted(path for path in (folder / "tasks").glob("[!.]*") if path.is_dir()):
        report = _json(task / "state.json").get("report") or {}
        if report.get("runtime") == DOCKER and report.get("state") not in ENDED:
            raise BackendError(f"The container of task {task.name} may still run, and its agent cannot be started")
        await _end(task)


async def _end(task: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while _held(task) or _strays(task):
        _order_kill(task)
        for pid in [] if _held(task) else _strays(task):  # a holder that lives ends its job itself, and better
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise BackendError(f"The processes of task {task.name} do not end")
        await asyncio.sleep(STEP_S)


def _order_kill(task: Path) -> None:
    try:
        fd = os.open(task / "control", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # nobody listens
    try:
        os.write(fd, b"0 0.000\n")
    except OSError:
        pass  # a full FIFO holds orders enough
    finally:
        os.close(fd)


def _held(task: Path) -> bool:
    """The holder lives: it has the writing end of the FIFO."""
    try:
        fd = os.open(task / "wake", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 1) != b""
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def _strays(task: Path) -> list[int]:
    """Processes of the job's session, on the machine's boot in which it was started."""
    holder = _json(task / "holder.json")
    session = holder.get("job_pid") or 0
    if not session or not _BOOT_ID.exists() or holder.get("boot_id") != _BOOT_ID.read_text().strip():
        return []
    rows = {int(path.name): _stat(path) for path in Path("/proc").glob("[0-9]*")}
    leader = rows.get(session)
    if leader is not None and leader[2] != holder.get("job_start"):
        return []  # the number belongs to somebody else by now
    return [pid for pid, row in rows.items() if row is not None and row[0] != "Z" and row[1] == session]


def _stat(path: Path) -> tuple[str, int, str] | None:
    """State, session and start of a process."""
    try:
        fields = (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None  # it ended meanwhile
    return fields[0], int(fields[3]), fields[19]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
