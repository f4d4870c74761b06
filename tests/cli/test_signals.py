"""A signal that does not interrupt the wait of the main thread is seen all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"
# The main thread lets another one take the signal: noted, and nothing wakes the main thread, as when the signal comes
# in the instant before the wait.
SLEEPER = """
import queue, signal, sys, threading
from dstack.cli.signals import Terminated, listen
number = int(sys.argv[1])
listen()
ready = threading.Event()
def other():
    ready.set()
    threading.Event().wait()
threading.Thread(target=other, daemon=True).start()
ready.wait()
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
try:
    print("waiting", flush=True)
    queue.Queue().get()
except (KeyboardInterrupt, Terminated) as seen:
    print(type(seen).__name__, flush=True)
"""


@pytest.mark.parametrize(("number", "seen"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")])
def test_a_signal_noted_while_the_main_thread_waits_ends_the_wait(number: int, seen: str):
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(int(number))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(number)
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert out == f"{seen}\n"
