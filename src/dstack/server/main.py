"""`python -m dstack.server`: reads settings, takes the port, serves until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import logging
import os
import socket
import sys

from dstack import __version__
from dstack.errors import DstackError, UsageError
from dstack.server.journal import FORMATS, to_stderr
from dstack.server.settings import Settings

MAX_PORT = 65535
LEVELS = ("debug", "info", "warning", "error")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: list[str] | None = None) -> int:
    """Serve, or do the one thing asked for; answers the exit code."""
    options = _options(argv)
    try:
        settings = Settings.from_env(
            host=options.host,
            port=options.port,
            log_level=options.log_level,
            update_cli_config=options.update_cli_config,
        )
        log_to_stderr(settings.log_level, settings.log_format)
        if not 0 < settings.port <= MAX_PORT:
            raise UsageError(f"port {settings.port}: expected a number from 1 to {MAX_PORT}")
        if options.command == "reset-token":
            from dstack.server.first_start import reset_token

            asyncio.run(reset_token(settings))
            return 0
        if options.command == "migrate":
            from dstack.server.moving import move

            asyncio.run(move(settings))
            return 0
        if options.command == "doctor":
            return _examine(settings, options.json)
        return _serve(settings)
    except DstackError as e:
        _say(f"error: {e.message}")
        if e.hint:
            _say(f"hint: {e.hint}")
        return 2 if isinstance(e, UsageError) else 1
    except OSError as e:
        if e.errno in _FULL:  # what Python writes to has no name then
            _say(f"error: The server's state cannot be written: {e.strerror}")
            _say("hint: make room where DSTACK_SERVER_DIR is, and start again")
            return 1
        if not isinstance(e.filename, str):
            raise
        _say(f"error: {e.filename} cannot be used: {e.strerror}")
        _say("hint: DSTACK_SERVER_DIR says where the server has its state; it needs a folder that it may write to")
        return 1
    except KeyboardInterrupt:
        return 130


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dstack server", description="Run the dstack server.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("-p", "--port", type=int, help="port to listen on (default 3000)")
    parser.add_argument("-l", "--log-level", choices=LEVELS, help="default info")
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument("-y", "--yes", dest="update_cli_config", action="store_true", default=None)
    answer.add_argument("-n", "--no", dest="update_cli_config", action="store_false", default=None)
    parser.add_argument("command", nargs="?", choices=["reset-token", "migrate", "doctor"])
    parser.add_argument("--json", action="store_true", help="of doctor")
    return parser.parse_args(argv)


def _examine(settings: Settings, as_json: bool) -> int:
    """1 when something is wrong."""
    from dstack.clock import WallClock
    from dstack.server.doctor.examine import examine, shown

    found = asyncio.run(examine(settings, WallClock()))
    sys.stdout.write(shown(found, as_json) + "\n")
    return 0 if all(one.ok for one in found) else 1


def _serve(settings: Settings) -> int:
    # The port first: it is the likeliest mistake, and nothing has been touched yet.
    with listen(settings) as listening:
        from dstack.server.serving import serve

        try:
            asyncio.run(serve(settings, listening))
        finally:
            # The interpreter would look at every object once more as it ends, with 10,000 hosts for seconds.
            gc.freeze()
    return 0


def listen(settings: Settings) -> socket.socket:
    """The socket to serve on. Raises DstackError naming the address, and what to do about it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol must be named: only then asyncio switches Nagle's algorithm off, and an answer in two pieces does not
    # wait 40 ms for its second one.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as e:
        listening.close()
        message = f"Cannot listen on {settings.host}:{settings.port}: {e.strerror}"
        raise DstackError(message, hint=_listen_hint(e, settings.port)) from None
    listening.listen(512)
    os.set_inheritable(listening.fileno(), False)
    return listening


def _listen_hint(e: OSError, port: int) -> str:
    if e.errno == errno.EADDRINUSE:
        return f"another program uses the port; try `dstack server --port {port + 1 if port < MAX_PORT else port - 1}`"
    if e.errno == errno.EACCES:
        return "ports below 1024 are for root; try `dstack server --port 3000`"
    return "--host is an address of this machine; 127.0.0.1 is for this machine alone, 0.0.0.0 for all networks"


def log_to_stderr(level: str, form: str) -> None:
    if form not in FORMATS:
        raise UsageError(f"DSTACK_LOG_FORMAT={form!r}: expected one of {', '.join(FORMATS)}")
    if level.lower() not in LEVELS:
        raise UsageError(f"DSTACK_SERVER_LOG_LEVEL={level!r}: expected one of {', '.join(LEVELS)}")
    to_stderr(level, form)
    for noisy in ("uvicorn", "uvicorn.error", "asyncio", "alembic", "asyncssh"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
