"""A process beside a task that outlives the agent: how it is started, watched, given orders, and found again.

In the task's folder are two FIFOs: it holds the writing end of `wake` as long as it lives, and reads orders from
`control`. What it says of its own troubles is in `holder.err`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence

REAP_PATIENCE_S = 1.0
LOOK_AGAIN_S = 0.01  # a job that prints without end gives a word for each piece: one look for many of them


class Companion:
    """That of the task whose folder is `directory`. One at a time: the caller sees to that."""

    def __init__(self, directory: str, process: Optional[subprocess.Popen] = None):
        self._directory = directory
        self._process = process

    def start(self, kind: str, launch: Dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Start the agent's program as `kind`, with `launch` on its standard input; it inherits `descriptors`.

        Raises OSError. It is told apart from one that never started by the FIFO whose other end it inherits.
        """
        for name in ("wake", "control"):
            try:
                os.mkfifo(self._path(name), 0o600)
            except FileExistsError:
                pass  # of one before it
        with contextlib.ExitStack() as ours:  # a writing end that stayed here would look like one that lives
            self._open(ours, "wake", os.O_RDONLY | os.O_NONBLOCK)  # else nobody may open the other end
            writing = self._open(ours, "wake", os.O_WRONLY)
            trouble = self._open(ours, "holder.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            passed = [writing, *descriptors]
            self._process = subprocess.Popen(
                [sys.executable, "-IS", *_this_program(), kind, self._directory, *map(str, passed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=trouble,
                pass_fds=passed,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        try:
            with self._process.stdin as stdin:
                stdin.write(json.dumps(launch).encode())  # through a pipe: secrets are in nobody's argv and in no file
        except BrokenPipeError:
            pass  # it died at once; whoever watches it is told

    def alive(self) -> bool:
        try:
            fd = self._open_wake()
        except FileNotFoundError:
            return False
        try:
            return bool(os.read(fd, 1))
        except BlockingIOError:
            return True
        finally:
            os.close(fd)

    async def watch(self, look: Callable[[], None]) -> None:
        """Call `look` now and after what the process tells, at once but for LOOK_AGAIN_S after the last time; returns
        after its end."""
        try:
            fd = self._open_wake()
        except FileNotFoundError:
            return
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        resting: Optional[asyncio.TimerHandle] = None

        def on_word() -> None:
            nonlocal resting
            alive = _drain(fd)
            try:
                look()
            except BaseException as e:
                alive = False
                if not ended.done():
                    ended.set_exception(e)
            loop.remove_reader(fd)
            if alive:
                resting = loop.call_later(LOOK_AGAIN_S, loop.add_reader, fd, on_word)
            elif not ended.done():
                ended.set_result(None)

        try:
            on_word()
            await ended
        finally:
            if resting is not None:
                resting.cancel()
            loop.remove_reader(fd)
            os.close(fd)

    def order(self, line: bytes) -> bool:
        """Give an order. False when the process is not there, or has not opened its end yet."""
        try:
            fd = os.open(self._path("control"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            if e.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            return False
        try:
            os.write(fd, line + b"\n")
        except (BlockingIOError, BrokenPipeError):
            pass  # a full FIFO holds orders enough; a reader that has just gone needs none
        finally:
            os.close(fd)
        return True

    def reap(self) -> bool:
        """Take the exit status of one that ended. False when it does not end, which must not hold up the agent."""
        if self._process is not None:
            try:
                self._process.wait(REAP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                return False
            self._process = None
        return True

    @property
    def trouble(self) -> str:
        """How it ended, as a part of a sentence: what it said last, else that somebody killed it."""
        try:
            with open(self._path("holder.err"), "rb") as f:
                lines = f.read(65536).decode("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return "failed: %s" % lines[-1] if lines else "was killed"

    def _open(self, until: contextlib.ExitStack, name: str, flags: int) -> int:
        fd = os.open(self._path(name), flags | os.O_CLOEXEC, 0o600)
        until.callback(os.close, fd)
        return fd

    def _open_wake(self) -> int:
        return os.open(self._path("wake"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _this_program() -> List[str]:
    """How to start this agent's code again: the zipapp, or the package in a source tree."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.isfile(here):
        return [here]
    return ["-c", "import sys; sys.path.insert(0, %r); from dstack.agent.__main__ import main; main()" % here]


def _drain(fd: int) -> bool:
    """Empty the FIFO; False when nobody has its other end any more."""
    while True:
        try:
            if not os.read(fd, 65536):
                return False
        except BlockingIOError:
            return True
