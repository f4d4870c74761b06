"""Where every failure ends: words and a hint for people, an exit code for programs, a file for what nobody expected."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import click

from dstack import errors
from dstack.cli import terminal
from dstack.cli.group import root

INTERRUPTED = 130
TERMINATED = 143
BROKEN_PIPE = 141
KEPT_CRASHES = 20

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_SECRETS = re.compile(
    r"(?i)(bearer\s+|(?:token|password|secret|authorization|private|value)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+"
)


class Quit(Exception):
    """End the command with this exit code; everything has been said."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def guarded(arguments: list[str], terminated: type[BaseException]) -> int:
    """Run the command and return its exit code; expected failures never show a traceback."""
    try:
        return _run(arguments)
    except Quit as end:
        return end.code
    except (KeyboardInterrupt, click.Abort):
        terminal.say("Cancelled by user")
        return INTERRUPTED
    except terminated:
        return TERMINATED
    except BrokenPipeError:
        terminal.mute_stdout()
        return BROKEN_PIPE
    except errors.DstackError as failure:
        terminal.error(failure.message, failure.hint)
        return 2 if isinstance(failure, errors.UsageError) else 1
    except Exception as failure:
        return _unexpected(failure, arguments)


def _run(arguments: list[str]) -> int:
    try:
        with root.make_context(
            "dstack", arguments
        ) as context:  # not `main`, which has a say of its own on broken pipes
            root.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as failure:
        return _usage(failure, arguments)
    except click.ClickException as failure:
        terminal.error(failure.format_message())
        return 1
    return 0


def _usage(failure: click.UsageError, arguments: list[str]) -> int:
    # Without a context (an option that lacks its value) the first word is what was meant.
    known = root.list_commands(click.Context(root))
    typed = " ".join(["dstack", *(word for word in arguments[:1] if word in known)])
    command = failure.ctx.command_path if failure.ctx else typed
    if failure.ctx:
        terminal.say(failure.ctx.get_usage())
    terminal.error(_plain(failure.format_message()), f"`{command} --help` shows all options")
    return 2


def _plain(message: str) -> str:
    """Click's words for numbers, in words that people use."""
    message = re.sub(r"is not a valid integer( range)?\.?", "is not a whole number.", message)
    message = re.sub(r"is not in the range (-?\d+)<=x<=(\d+)\.?", r"is not between \1 and \2.", message)
    return re.sub(r"is not in the range x>=(-?\d+)\.?", r"is less than \1.", message)


def _unexpected(failure: Exception, arguments: list[str]) -> int:
    """A bug: one line for the person, the traceback in a file that only they can read."""
    if isinstance(failure, OSError) and failure.filename and not isinstance(failure.filename, int):
        terminal.error(f"{failure.strerror}: {failure.filename}")
        return 1
    if isinstance(failure, OSError) and failure.errno in _FULL:
        terminal.mute_stdout()  # it may be what could not be written, and has more to write
        terminal.error(f"{failure.strerror}: something could not be written", "make room, and try again")
        return 1
    import traceback

    text = "".join(traceback.format_exception(failure))
    try:
        path = _store(scrubbed(f"command: {arguments[:1]}\n{text}"))
    except OSError:
        terminal.error(f"dstack failed unexpectedly ({type(failure).__name__})")
        return 1
    terminal.error(f"dstack failed unexpectedly ({type(failure).__name__}); this is a bug", f"details are in {path}")
    return 1


def scrubbed(text: str) -> str:
    """Text without the values of tokens and passwords, those of the environment included."""
    for name, value in os.environ.items():
        if len(value) >= 8 and re.search(r"TOKEN|SECRET|PASSWORD|KEY", name):
            text = text.replace(value, "***")
    return _SECRETS.sub(r"\1***", text)


def _store(text: str) -> Path:
    folder = Path.home() / ".dstack" / "logs" / "cli"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in sorted(folder.glob("crash-*.log"))[: -KEPT_CRASHES + 1]:
        old.unlink(missing_ok=True)
    path = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path
