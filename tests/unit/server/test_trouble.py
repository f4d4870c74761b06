"""What became of a transaction whose commit failed, by what the database said."""

from __future__ import annotations

import sqlite3

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from dstack.server.store.trouble import DatabaseUnavailable, Trouble


def told(severity: str, kind: type[asyncpg.PostgresError]) -> DBAPIError:
    """As PostgreSQL says it: an ERROR refuses and goes on, a FATAL ends the session, a PANIC all of them."""
    error = kind("told")
    error.severity_en = severity  # pyright: ignore[reportAttributeAccessIssue]
    return DBAPIError("COMMIT", None, error)


def of_sqlite(code: int) -> DBAPIError:
    error = sqlite3.OperationalError("told")
    error.sqlite_errorcode = code
    return DBAPIError("COMMIT", None, error)


def unsure(error: Exception, *, committing: bool = True) -> bool:
    with pytest.raises(DatabaseUnavailable) as raised, Trouble().watch(remote=True, committing=committing):
        raise error
    return raised.value.unsure


@pytest.mark.parametrize(
    "error",
    [
        told("FATAL", asyncpg.AdminShutdownError),
        told("PANIC", asyncpg.DiskFullError),
        of_sqlite(sqlite3.SQLITE_IOERR_FSYNC),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_of_a_commit_that_was_cut_off_nobody_knows_whether_it_was_kept(error: Exception):
    assert unsure(error)
    assert not unsure(error, committing=False)


@pytest.mark.parametrize("error", [told("ERROR", asyncpg.DiskFullError), of_sqlite(sqlite3.SQLITE_FULL)])
def test_a_commit_that_the_database_refuses_changed_nothing(error: Exception):
    assert not unsure(error)


def test_a_database_that_lets_the_server_in_no_more_is_trouble_and_not_a_failure_of_the_request():
    with pytest.raises(DatabaseUnavailable, match="refuses the user or the password"), Trouble().watch():
        raise asyncpg.InvalidPasswordError("password authentication failed")
