"""`--watch`: the same answer again and again, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from dstack.cli.terminal import put, say
from dstack.errors import ServerUnreachable

PERIOD_S = 2.0
CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J"


def redraw(answer: Callable[[], str], period_s: float = PERIOD_S) -> None:
    """Show the answer every `period_s` seconds: in place on a terminal, elsewhere when it changed. Ctrl-C ends it."""
    shown = ""
    try:
        while True:
            try:
                text = answer()
            except ServerUnreachable as error:
                if not shown:
                    raise
                text = f"{shown}\n\n{error.message}; trying again" if sys.stdout.isatty() else shown
            if sys.stdout.isatty():
                put(CLEAR_SCREEN + text)
            elif text != shown:
                put(text)
            shown = text if "; trying again" not in text else shown
            time.sleep(period_s)
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            say()
