"""Runs all checks and tells what they found."""

from __future__ import annotations

import http.client
import json
import platform
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from dstack import __version__
from dstack.clock import Clock
from dstack.errors import DstackError
from dstack.server.doctor import database, folder, members
from dstack.server.doctor.finding import Finding
from dstack.server.doctor.reading import reading
from dstack.server.exclusive import holder
from dstack.server.settings import Settings
from dstack.server.store.direct import check_sessions
from dstack.server.store.trouble import DatabaseUnavailable

HEALTH_DEADLINE_S = 3.0


async def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """What all checks found. Raises DstackError when there is no server to examine."""
    url = settings.resolved_database_url
    sqlite = make_url(url).get_backend_name() == "sqlite"
    if sqlite and not settings.sqlite_path.exists() and not settings.database_url:
        raise DstackError(
            f"There is no server database in {settings.data_dir}",
            hint="DSTACK_SERVER_DIR and DSTACK_DATABASE_URL say where the server has its state",
        )
    server, running = _server(settings, holder(settings.data_dir))
    found = [_versions(), server, *folder.disks(settings)]
    return found + await _of_database(settings, url, sqlite, clock.now(), running)


def shown(found: list[Finding], as_json: bool) -> str:
    """For people a line each and what is wrong below it, or one JSON document."""
    if as_json:
        checks = [{"name": f.name, "ok": f.ok, "message": f.message, "details": [*f.details], **f.data} for f in found]
        return json.dumps({"ok": all(f.ok for f in found), "checks": checks}, indent=2)
    lines: list[str] = []
    for one in found:
        lines.append(f"{'ok  ' if one.ok else 'FAIL'}  {one.name:<10}  {one.message}")
        lines += [f"{'':18}{detail}" for detail in one.details]
    return "\n".join(lines)


async def _of_database(settings: Settings, url: str, sqlite: bool, now: float, running: bool) -> list[Finding]:
    found: list[Finding] = []
    checks: list[Callable[[Any], Awaitable[Finding]]] = [
        lambda c: database.version(c, sqlite),
        database.schema,
        lambda c: members.servers(c, now, sqlite),
        lambda c: database.encryption(c, settings),
        lambda c: database.overdue(c, now, running),
        lambda c: database.acts(c, now),
        lambda c: database.unread(c, now, running),
        lambda c: database.orphans(c, now),
        lambda c: database.chores(c, now),
        lambda c: folder.logs(c, settings),
    ]
    try:
        if not sqlite:
            await check_sessions(url)
        async with reading(url) as connection:
            for check in checks:
                found.append(await check(connection))
                if found[-1].name == "schema" and not found[-1].ok:
                    break  # the tables may be others than the ones that are known here
    except DatabaseUnavailable as e:
        found.append(Finding("database", False, str(e)))
    except DstackError as e:
        found.append(Finding("database", False, e.message, (e.hint,) if e.hint else ()))
    except (SQLAlchemyError, OSError, TimeoutError) as e:
        # Addresses of databases hold passwords: the kind of the error is enough.
        found.append(Finding("database", False, f"it cannot be read: {_kind(e)}"))
    return found


def _kind(e: BaseException) -> str:
    cause = getattr(e, "orig", None) or e
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return f"{type(cause).__name__}"


def _versions() -> Finding:
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    data = {"dstack": __version__, "python": python, "system": system}
    return Finding("version", True, f"dstack {__version__}, Python {python}, {system}", (sys.executable,), data)


def _server(settings: Settings, holder: str | None) -> tuple[Finding, bool]:
    """What is told of it, and whether it runs. `holder`: where the one that holds the folder listens."""
    url = holder or settings.url
    answers, health = _health(url)
    if holder is not None and not answers:
        words = f"it uses {settings.data_dir}, but does not answer at {url}"
        return Finding("server", False, words, ("it hangs, or cannot be reached from here",), {"running": True}), True
    words = "answers at" if answers else "does not answer at"
    told = f": {health}" if health else ""
    return Finding("server", not health, f"{words} {url}{told}", (), {"running": answers}), answers


def _health(url: str) -> tuple[bool, str]:
    """Whether the server runs, and what it says that it waits for."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=HEALTH_DEADLINE_S)
    try:
        connection.request("GET", "/healthcheck")
        response = connection.getresponse()
        body = json.loads(response.read())
        if response.status == 503:
            return True, str(body["detail"][0]["msg"])
        return response.status == 200, str(body.get("x_slow", ""))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError):
        return False, ""  # nobody, or something else
    finally:
        connection.close()
