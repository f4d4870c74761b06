"""Storage that fails: which errors mean that the database cannot be used just now, in words, and since when."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

log = logging.getLogger(__name__)
QUIET_S = 60.0  # trouble that is back within so long is the same one, and not told again

_SQLITE = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_IOERR: "its disk fails",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_NOTADB: "the file is damaged",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}
# By the class of the SQLSTATE, or the whole of it.
BROKE, SILENT = "the connection to it broke", "it does not answer"
ROLLED_BACK = "40"  # the transaction met another one: nothing of it is kept, and it may be tried again
_POSTGRES = {
    "53100": "its disk is full",
    "53300": "it has too many connections",
    "25006": "it is read-only",
    "55P03": "another program keeps its rows or tables locked",
    "57014": "it takes too long to answer",
    "3D000": "there is no database of that name",
    "28": "it refuses the user or the password",
    "42501": "its user lacks a right",
    "08": BROKE,
    "53": "it has no room",
    "57P": "it is being stopped or started",
    "58": "its disk fails",
    "XX": "it is damaged",
}


class DatabaseUnavailable(Exception):
    """The database cannot be used just now; `str` says why, without values. Nothing of the transaction was kept, unless
    it is `unsure`: the answer to its commit was lost.

    Not a DstackError: nobody's request is wrong, and whoever works on asks again.
    """

    def __init__(self, message: str, *, unsure: bool = False):
        super().__init__(message)
        self.unsure = unsure


def remedy(url: str, trouble: str) -> str:
    """What to do about a database that cannot be opened, for the `trouble` that `words` found."""
    if make_url(url).get_backend_name() != "sqlite":
        if _POSTGRES["28"] in trouble:
            return "DSTACK_DATABASE_URL has the user and the password"
        if _POSTGRES["42501"] in trouble:
            return "make the user of DSTACK_DATABASE_URL the owner: `ALTER DATABASE name OWNER TO user`"
        return "DSTACK_DATABASE_URL says which one; does it run, and may this machine reach it?"
    file = make_url(url).database
    if "damaged" in trouble:
        return f"it is the file {file}: restore a backup of it, or `sqlite3 {file} .recover` what can be read"
    return f"it is the file {file}; `dstack server doctor` looks at its disk and at what else it needs"


def words(error: BaseException) -> str | None:
    """Why the database cannot be used; None: the statement is to blame, or the error has nothing to do with it."""
    if isinstance(error, DBAPIError):
        cause = error.orig
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None:
            return _SQLITE.get(code & 0xFF)
        if isinstance(cause, sqlite3.Error):
            return None
        return _of_state(cause) or (BROKE if error.connection_invalidated else None)
    if isinstance(error, sqlite3.Error):
        return _SQLITE.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF)
    if isinstance(error, PoolTimeout):
        return "no connection to it became free"
    return _of_state(error)


def _of_state(error: BaseException | None) -> str | None:
    state = state_of(error)
    return next((_POSTGRES[key] for key in (state, state[:3], state[:2]) if key in _POSTGRES), None)


def state_of(error: BaseException | None) -> str:
    """The SQLSTATE of what PostgreSQL answered; "" where it was something else."""
    state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
    return state if isinstance(state, str) else ""


def _refused(error: BaseException) -> bool:
    """Whether the database itself refused, and goes on: then nothing of the transaction is kept.

    A FATAL of PostgreSQL that ends the session, and a disk that fails under SQLite, may come after it was.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF != sqlite3.SQLITE_IOERR
    return getattr(getattr(cause, "__cause__", None) or cause, "severity_en", None) == "ERROR"


class Trouble:
    """Tells once that the database cannot be used, and once that it can be again."""

    def __init__(self) -> None:
        self.words: str | None = None  # None: all is well
        self.began = asyncio.Event()
        self.count = 0  # how often anybody met it
        self._since = 0.0
        self._told: set[str] = set()  # each reason once
        self._over_at = float("-inf")

    @contextmanager
    def watch(self, *, remote: bool = False, committing: bool = False) -> Iterator[None]:
        """Errors of the database within are DatabaseUnavailable, and told.

        `remote`: those of the system, and deadlines, too. `committing`: nobody knows what became of a lost one.
        """
        try:
            yield
        except Exception as e:
            why = words(e) or (SILENT if remote and isinstance(e, OSError) else None)
            if why is None:
                raise
            raise self.happened(why, unsure=committing and not _refused(e)) from e

    def happened(self, why: str, *, unsure: bool = False) -> DatabaseUnavailable:
        """Tell it, unless it was; the error to raise."""
        now = time.monotonic()
        if self.words is None:
            self._since = now
            if now - self._over_at > QUIET_S:
                self._told.clear()
        self.words = why
        self.count += 1
        self.began.set()
        if why not in self._told:
            self._told.add(why)
            log.error("the database cannot be used: %s; requests are refused, and work waits until it can be", why)
        return DatabaseUnavailable(f"The database cannot be used: {why}", unsure=unsure)

    def over(self) -> None:
        """It can be written again."""
        if self.words is not None:
            now = time.monotonic()
            log.warning("the database can be used again, after %.0f s", now - self._since)
            self._over_at = now
        self.words = None
        self.began.clear()


def complain(to: logging.Logger, message: str, *arguments: object) -> None:
    """Log the exception that is being handled, unless it is one that the database told already."""
    error = sys.exc_info()[1]
    rest = error.split(DatabaseUnavailable)[1] if isinstance(error, BaseExceptionGroup) else error
    level = logging.DEBUG if rest is None or isinstance(rest, DatabaseUnavailable) else logging.ERROR
    to.log(level, message, *arguments, exc_info=True)
