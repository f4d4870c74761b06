"""Connections of one task: which sshd serves each, whether somebody has entered, and what outlives the agent of it.

`sessions/PID-START` in the task's folder is what that sshd says; the file goes when the connection ends, so the
folder's own time tells when the last one ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Dict, List, Optional, Set

from dstack.agent import keys, processes

MAX_SAID = 64 * 1024
SECOND_SIGNAL_S = 2.0


class Connection:
    def __init__(self, pid: int, start: str, said: str, process: Optional[subprocess.Popen] = None):
        self.pid = pid
        self.start = start
        self._said = said
        self._process = process
        self.fingerprint: Optional[str] = None  # of the key that was let in
        self.ended_at: Optional[float] = None  # monotonic; it was told to end
        self.began = time.monotonic()

    @property
    def alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        row = processes.find(self.pid)
        return row is not None and row.start == self.start and not row.zombie

    def look(self) -> None:
        """Read whether somebody was let in."""
        try:
            with open(self._said, errors="replace") as f:
                said = f.read(MAX_SAID)
            if self.fingerprint is None:
                self.fingerprint = keys.accepted_fingerprint(said)
            if len(said) >= MAX_SAID:
                os.truncate(self._said, 0)
        except OSError:
            pass  # removed with the task

    def end(self) -> None:
        """Tell its sshd to end; again: kill it. What it started then sees that the person has gone."""
        number = signal.SIGTERM if self.ended_at is None else signal.SIGKILL
        if self.ended_at is None:
            self.ended_at = time.monotonic()
        if self.alive:
            try:
                os.killpg(self.pid, number)
            except OSError:
                pass  # it has just ended

    def forget(self) -> None:
        try:
            os.unlink(self._said)
        except OSError:
            pass  # gone already


class Connections:
    def __init__(self, directory: str):
        self._folder = os.path.join(directory, "sessions")
        self._open: Dict[int, Connection] = {}
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        before = os.stat(self._folder)
        self._adopt()
        self._last_end = before.st_mtime

    def _adopt(self) -> None:
        """Find those again that an earlier agent had begun."""
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            pid, _, start = name.partition("-")
            found = Connection(int(pid) if pid.isdigit() else 0, start, path)
            if start and found.alive:
                found.look()
                self._open[found.pid] = found
            else:
                found.forget()

    def begin(self, argv: List[str], stream, pass_fds: List[int]) -> None:
        """Start `argv` on the connected socket `stream`. Raises OSError."""
        fresh = os.path.join(self._folder, "new")
        said = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                argv,
                stdin=stream,
                stdout=stream,
                stderr=said,
                pass_fds=pass_fds,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(said)
        row = processes.find(process.pid)
        path = os.path.join(self._folder, "%d-%s" % (process.pid, row.start if row else "0"))
        os.rename(fresh, path)
        self._open[process.pid] = Connection(process.pid, row.start if row else "0", path, process)

    @property
    def count(self) -> int:
        return len(self._open)

    @property
    def pids(self) -> List[int]:
        """Of the sshd of each; it leads a session of processes."""
        return list(self._open)

    @property
    def strangers(self) -> int:
        """How many have not shown a key that opens."""
        return sum(1 for each in self._open.values() if each.fingerprint is None)

    @property
    def entered(self) -> int:
        return len(self._open) - self.strangers

    @property
    def last_end(self) -> float:
        """The instant since which nobody was in; the folder's making where nobody ever was."""
        return self._last_end

    def look(self) -> None:
        """See who was let in and who has gone."""
        for each in list(self._open.values()):
            if each.alive:
                if each.fingerprint is None:
                    each.look()
                if each.ended_at is not None and time.monotonic() - each.ended_at > SECOND_SIGNAL_S:
                    each.end()
                continue
            each.look()
            was_in = each.fingerprint is not None
            del self._open[each.pid]
            each.forget()
            if was_in:
                self._last_end = time.time()

    def end(self, allowed: Optional[Set[str]] = None) -> None:
        """End all, or all whose key is not among `allowed`; who is just knocking knocks again."""
        for each in self._open.values():
            if each.fingerprint is None:
                each.look()
            if allowed is None or each.fingerprint not in allowed:
                each.end()
