"""The person's terminal: data to stdout, talk to stderr, colour and a status line only where they can be seen."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, TextIO

CLEAR_LINE = "\r\x1b[2K"
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def put(text: str = "") -> None:
    """A line of data, at once."""
    _write(sys.stdout, text + "\n")


def put_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document."""
    put(json.dumps(value, indent=indent, ensure_ascii=False))


def put_bytes(data: bytes) -> None:
    """Raw data, at once and unchanged."""
    sys.stdout.flush()
    stream = sys.stdout.buffer
    stream.write(data)
    stream.flush()


def mute_stdout() -> None:
    """Nobody reads stdout any more: what is still to be flushed goes into nothing."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # no descriptor, nothing to flush


def say(text: str = "") -> None:
    """A line of talk. Where even that cannot be written nobody listens, which is no reason to fail."""
    try:
        _write(sys.stderr, text + "\n")
    except BrokenPipeError:
        pass


def style(text: str, *names: str, stream: TextIO | None = None) -> str:
    """Coloured text where `stream` (stdout) is a terminal that wants colours."""
    if not text or not has_colour(stream or sys.stdout):
        return text
    return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def accent(text: str) -> str:
    """A name in a line of talk."""
    return style(text, "bold", stream=sys.stderr)


def has_colour(stream: TextIO) -> bool:
    """A terminal, and nobody said NO_COLOR."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def width() -> int | None:
    """Columns of the screen, or None where text goes into a file or a pipe and must not be cut."""
    if not os.environ.get("COLUMNS") and not sys.stdout.isatty():
        return None
    return max(40, shutil.get_terminal_size().columns)


def error(message: str, hint: str | None = None) -> None:
    """A failure and what to do about it, to stderr."""
    say(f"{style('error:', 'red', stream=sys.stderr)} {message}")
    if hint:
        head, *rest = hint.split("\n")
        say(f"{style('hint:', 'cyan', stream=sys.stderr)} {head}")
        for line in rest:
            say(f"      {line}")


def warn(message: str) -> None:
    """Something that a person should know, to stderr."""
    say(f"{style('note:', 'yellow', stream=sys.stderr)} {message}")


class StatusLine:
    """One line at the bottom that tells what is going on: redrawn on a terminal, a line per change elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""
        self._last = ""

    def tell(self, text: str) -> None:
        """Show `text` in place of what was shown; nothing happens when it is the same."""
        if text == self._last:
            return
        self._last = text
        if self._live:
            limit = shutil.get_terminal_size().columns - 1
            self._shown = text if len(text) <= limit else text[: limit - 1] + "…"
            _write(sys.stderr, CLEAR_LINE + style(self._shown, "dim", stream=sys.stderr))
        else:
            say(text)

    def clear(self) -> None:
        """Leave a clean line for what comes next."""
        if self._live and self._shown:
            _write(sys.stderr, CLEAR_LINE)
        self._shown = ""
        self._last = ""


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
