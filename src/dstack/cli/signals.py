"""Signals are seen at once, also those that come in the instant before the main thread begins to wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

_NUDGE = signal.SIGURG  # ignored by default, and used by nobody else here
_AFTER_S = (0.02, 0.2, 1.0)


class Terminated(BaseException):
    """SIGTERM came: unwind as for Ctrl-C, ask nothing."""


def listen() -> None:
    """Make SIGTERM raise `Terminated`, and keep SIGINT and SIGTERM from being slept through.

    CPython notes a signal and runs its handler between two instructions. One that comes after the last check before a
    blocking call is noted, and the call blocks all the same: Ctrl-C would be seen when the server answers, or never.
    So a thread that hears of each signal interrupts the main thread a moment later, to no other effect.
    """
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(_NUDGE, _ignore)
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_nudge, args=(heard, threading.main_thread().ident), daemon=True).start()


def _nudge(heard: int, main_thread: int) -> None:
    while numbers := os.read(heard, 64):
        if any(number != _NUDGE for number in numbers):
            for pause_s in _AFTER_S:
                time.sleep(pause_s)
                signal.pthread_kill(main_thread, _NUDGE)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    raise Terminated


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    pass
