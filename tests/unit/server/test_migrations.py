"""The schema's history: it leads exactly to the tables, under a lock, all or nothing."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from dstack.errors import DstackError
from dstack.server.store import migrate, migrations
from dstack.server.store.tables import metadata


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def schema(path: Path) -> dict[str, str]:
    """Every table and index as SQLite keeps it, without the order of constraints, which means nothing."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: _sorted(sql) for name, sql in rows if name not in ("alembic_version", "sqlite_sequence")}


def _sorted(sql: str) -> str:
    head, _, body = re.sub(r"\s+", " ", sql.replace('"', "")).partition("(")
    parts = re.split(r",(?![^()]*\))", body.removesuffix(")"))
    return head.strip() + "(" + ", ".join(sorted(part.strip() for part in parts)) + ")"


async def test_the_scripts_lead_exactly_to_the_tables(tmp_path: Path) -> None:
    await migrate.upgrade(url_of(tmp_path / "scripts.db"))
    engine = create_engine(f"sqlite:///{tmp_path / 'tables.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema(tmp_path / "scripts.db") == schema(tmp_path / "tables.db")


def test_the_head_is_that_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


async def test_a_database_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    url = url_of(tmp_path / "a.db")
    assert await migrate.upgrade(url) is True
    assert await migrate.upgrade(url) is False


async def test_of_two_servers_that_start_at_once_one_migrates(tmp_path: Path) -> None:
    url = url_of(tmp_path / "a.db")
    assert sorted(await asyncio.gather(migrate.upgrade(url), migrate.upgrade(url))) == [False, True]


async def test_the_way_back_leaves_nothing(tmp_path: Path) -> None:
    url = url_of(tmp_path / "a.db")
    await migrate.upgrade(url)
    assert await migrate.downgrade(url) is True
    assert schema(tmp_path / "a.db") == {}
    assert await migrate.upgrade(url) is True


async def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE run (in_the_way TEXT)")
    connection.close()
    with pytest.raises(OperationalError, match="table run already exists"):
        await migrate.upgrade(url_of(path))
    assert list(schema(path)) == ["run"]


async def test_a_database_of_a_newer_release_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = await of_a_newer_release(tmp_path, compatible_with="9998")
    with pytest.raises(DstackError) as caught:
        await migrate.upgrade(url_of(path))
    assert "newer release" in (caught.value.hint or "")


async def test_a_newer_database_that_says_that_this_release_can_work_with_it_is_left_alone(tmp_path: Path) -> None:
    path = await of_a_newer_release(tmp_path, compatible_with=migrations.HEAD)
    assert await migrate.upgrade(url_of(path)) is False
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    connection.close()


async def test_what_the_oldest_compatible_release_writes_and_reads_is_still_there(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    await migrate.upgrade(url_of(old))
    await migrate.downgrade(url_of(old), migrations.MIN_COMPATIBLE)
    await migrate.upgrade(url_of(new))
    before, after = columns(old), columns(new)
    assert {key: after.get(key) for key in before} == before, "a column was removed or changed"
    for (table, name), (_, required, default) in after.items():
        if (table, name) not in before and table in {t for t, _ in before}:
            assert not required or default is not None, f"{table}.{name}: an older server does not write it"


async def of_a_newer_release(folder: Path, compatible_with: str) -> Path:
    path = folder / "a.db"
    await migrate.upgrade(url_of(path))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE meta SET value = ? WHERE key = ?", (compatible_with.encode(), migrate.COMPATIBLE))
    connection.close()
    return path


def columns(path: Path) -> dict[tuple[str, str], tuple[str, bool, str | None]]:
    """(type, required, default) of every column."""
    found = {}
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, name, kind, required, default, _ in connection.execute(f'PRAGMA table_info("{table}")'):
                found[table, name] = (kind, bool(required), default)
    connection.close()
    return found


async def test_the_file_is_its_owners_alone_also_when_it_was_not(tmp_path: Path) -> None:
    file = tmp_path / "in" / "a" / "folder" / "server.db"
    await migrate.upgrade(url_of(file))
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    await migrate.upgrade(url_of(file))
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DstackError, match=r"server\.db cannot be opened: "):
        await migrate.upgrade(url_of(tmp_path / "file" / "server.db"))
