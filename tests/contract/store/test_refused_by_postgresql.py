"""A PostgreSQL that does not let the server in, or not do its work: said in words, with what to do about it."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from dstack.server.store.migrate import upgrade
from dstack.server.store.trouble import DatabaseUnavailable, remedy
from support import postgres


async def refused(url: str, user: str) -> tuple[str, str]:
    """The message and the hint of a server that starts on it as this user."""
    with pytest.raises(DatabaseUnavailable) as told:
        await upgrade(make_url(url).set(username=user).render_as_string(hide_password=False))
    return str(told.value), remedy(url, str(told.value))


@pytest.fixture
def empty(postgres_server: str) -> str:
    return postgres.new_database(postgres_server)


async def test_an_unknown_user_or_a_wrong_password_is_told(empty: str):
    message, hint = await refused(empty, "stranger")
    assert message == "The database cannot be used: it refuses the user or the password"
    assert hint == "DSTACK_DATABASE_URL has the user and the password"


async def test_a_user_who_may_not_make_tables_is_told(empty: str):
    connection = await asyncpg.connect(empty.replace("+asyncpg", ""))
    await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await connection.execute("CREATE ROLE walker LOGIN")
    try:
        message, hint = await refused(empty, "walker")
    finally:
        await connection.execute("DROP ROLE walker")
        await connection.close()
    assert message == "The database cannot be used: its user lacks a right"
    assert "ALTER DATABASE name OWNER TO user" in hint
