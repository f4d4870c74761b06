"""What a person sees when the server is up, and the token that is shown exactly once."""

from __future__ import annotations

import asyncio
import logging
import sys

from dstack import __version__
from dstack.api import config
from dstack.clock import WallClock
from dstack.errors import DstackError
from dstack.server.services import bootstrap
from dstack.server.settings import Settings
from dstack.server.store.database import Database

log = logging.getLogger(__name__)


async def greet(settings: Settings, token: str | None) -> None:
    """Say where the server is, what the token is when it is new, and what to type next."""
    lines = [f"dstack {__version__} is running at {settings.url}"]
    if token is not None:
        lines += ["", *_shown(token, settings), *await _configure_cli(settings, token)]
    lines += [
        "",
        "Next, in another terminal:",
        f"  {_next_command(settings, token)}",
        "",
        "Ctrl-C stops the server; running jobs go on.",
        "",
    ]
    try:
        sys.stdout.write("\n".join(lines))
        sys.stdout.flush()
    except OSError as e:
        log.warning(
            "the greeting could not be written: %s", e.strerror
        )  # nobody reads it; the server runs all the same


def _shown(token: str, settings: Settings) -> list[str]:
    """A chosen token is known to whoever chose it, and what is printed may be kept for ever by what runs the server."""
    if settings.admin_token:
        return ["The admin user token is the one that was given."]
    return [f"The admin user token is {token}", "It is not shown again; `dstack server reset-token` makes a new one."]


async def reset_token(settings: Settings) -> None:
    """Give the admin a new token and print it. Raises DstackError when there is no database yet."""
    if not settings.database_url and not settings.sqlite_path.exists():
        raise DstackError(f"There is no server database in {settings.data_dir}", hint="`dstack server` makes one")
    database = Database(settings.resolved_database_url)
    try:
        token = await bootstrap.reset_token(database, WallClock().now())
    finally:
        await database.close()
    sys.stdout.write(token + "\n")
    for line in await _configure_cli(settings, token):
        sys.stderr.write(line + "\n")


async def _configure_cli(settings: Settings, token: str) -> list[str]:
    """Let this person's CLI use the server; what was done, in words."""
    path = config.default_path()
    entry = config.ProjectEntry(settings.default_project, settings.url, token, default=True)
    try:
        entries = config.load(path)
        known = next((e for e in entries if e.name == entry.name), None)
        if not await _may_write(settings, known, entry):
            return [f"{path} was left as it is; `dstack project add` writes it."]
        config.save(config.with_entry(entries, entry), path)
    except (DstackError, OSError) as e:
        return [f"{path} could not be written: {e}"]
    return [f"The project {entry.name} was written to {path}."]


async def _may_write(settings: Settings, known: config.ProjectEntry | None, new: config.ProjectEntry) -> bool:
    if settings.update_cli_config is not None:
        return settings.update_cli_config
    # Another server's project of the same name is not overwritten unasked.
    if known is None or known.url == new.url:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return await _agreed(f"Update the project {new.name} ({known.url}) in {config.default_path()}? [y/n]: ")


async def _agreed(question: str) -> bool:
    """Asks on the terminal, without a thread: one that reads could not be called back when the server is to stop."""
    sys.stdout.write(question)
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _next_command(settings: Settings, token: str | None) -> str:
    """What works as it is typed: without a project of this server in their file people have to add it first."""
    try:
        known = any(one.url == settings.url for one in config.load(config.default_path()))
    except (DstackError, OSError):
        known = False
    if not known:
        return f"dstack project add --name {settings.default_project} --url {settings.url} --token TOKEN"
    return "dstack ps" if token is None else "dstack fleet"  # which says how to make one
