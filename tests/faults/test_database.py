"""The database is full, locked, moved, damaged: the server says so once, loses nothing, and goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dstack.errors import DstackError
from support.faulty import FLEET, healthy, names_of_runs, remove_fleet, said, server, submit_until_refused
from support.http_api import FirstStart, ended, settings_in, task
from support.small_disk import small_disk

NOT_A_DATABASE = "the file is damaged"
LOCKED_S = 2.0


@pytest.mark.root
async def test_a_full_disk_refuses_requests_in_words_and_is_over_when_there_is_room(
    tmp_path: Path, first_started: FirstStart, caplog: pytest.LogCaptureFixture
):
    with small_disk(tmp_path / "disk") as disk:
        shutil.copytree(first_started.folder / "data", disk.folder / "data")
        shutil.copytree(first_started.folder, tmp_path / "server", ignore=shutil.ignore_patterns("data"))
        settings = settings_in(tmp_path / "server", f"sqlite:///{disk.folder}/data/sqlite.db")
        async with server(settings) as api:
            await api.call("fleets/apply", {"plan": {"spec": FLEET}})
            disk.fill()
            stored, refused = await submit_until_refused(api)
            assert refused["detail"][0]["msg"] == "The database cannot be used: its disk is full"
            await healthy(api, status=503)
            disk.free()
            await healthy(api)
            await api.call("runs/apply", {"plan": {"run_spec": task(name="after")}})
            assert await names_of_runs(api) == {*stored, "after"}
            for name in {*stored, "after"}:
                assert (await ended(api, name))["status"] == "done"
            await remove_fleet(api)
        assert said(caplog, "cannot be used: its disk is full") == 1
        assert said(caplog, "can be used again") >= 1
        assert not [r for r in caplog.records if r.exc_info and r.levelno >= logging.ERROR]


async def test_a_database_that_another_program_locks_is_waited_for_and_work_goes_on(
    tmp_path: Path, first_started: FirstStart
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings = settings_in(tmp_path / "server")
    async with server(settings) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        locked = sqlite3.connect(settings.sqlite_path, timeout=30, isolation_level=None, check_same_thread=False)
        # Not in the loop: the server, which lives there, may be in the middle of a transaction.
        await asyncio.to_thread(locked.execute, "BEGIN IMMEDIATE")
        submitting = asyncio.ensure_future(api.call("runs/apply", {"plan": {"run_spec": task(name="r")}}))
        until = time.monotonic() + LOCKED_S
        # Meanwhile the others are answered: the one that waits does so in a thread.
        while time.monotonic() < until:
            await api.call("/api/users/get_my_user")
        assert not submitting.done()
        await asyncio.to_thread(locked.rollback)
        await submitting
        locked.close()
        assert (await ended(api, "r"))["status"] == "done"
        await remove_fleet(api)


def move(file: Path) -> None:
    file.rename(f"{file}.away")


def replace(file: Path) -> None:
    """As a backup that is restored under a running server does."""
    shutil.copy(file, f"{file}.away")
    file.unlink()


@pytest.mark.parametrize("away", [move, replace])
async def test_nothing_is_written_to_a_database_file_that_was_moved_or_replaced(
    tmp_path: Path, first_started: FirstStart, away: Callable[[Path], object], caplog: pytest.LogCaptureFixture
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings = settings_in(tmp_path / "server")
    file = settings.sqlite_path
    async with server(settings) as api:
        await api.call("runs/apply", {"plan": {"run_spec": task(name="before")}})
        inode = file.stat().st_ino
        away(file)
        answer = await api.raw("runs/apply", {"plan": {"run_spec": task(name="lost")}})
        assert answer.status_code == 503
        assert "was moved or deleted" in answer.json()["detail"][0]["msg"]
        await healthy(api, status=503)
        Path(f"{file}.away").rename(file)
        if file.stat().st_ino == inode:
            await healthy(api)
            assert await names_of_runs(api) == {"before"}
        else:
            answer = await api.raw("/api/users/get_my_user")
            assert "is another one now" in answer.json()["detail"][0]["msg"]
    assert said(caplog, "was moved or deleted") == 1


async def test_a_journal_without_its_database_is_not_thrown_away(tmp_path: Path, first_started: FirstStart):
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings = settings_in(tmp_path / "server")
    settings.sqlite_path.unlink()
    journal = settings.sqlite_path.with_name("sqlite.db-wal")
    journal.write_bytes(b"what was acknowledged last")
    with pytest.raises(DstackError, match="is not there, but its journal"):
        await server(settings).__aenter__()
    assert journal.read_bytes() == b"what was acknowledged last"


async def test_a_backup_beside_the_journal_of_a_killed_server_is_not_mixed_with_it(
    tmp_path: Path, first_started: FirstStart
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    file = settings_in(tmp_path / "server").sqlite_path
    journal = file.with_name("sqlite.db-wal")
    backup = file.read_bytes()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer:
        for size in (400, 100):  # what is in the file by now, and what the journal has of the time after that
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            writer.execute("CREATE TABLE IF NOT EXISTS later (text)")
            writer.executemany("INSERT INTO later VALUES (?)", [("x" * 4000,)] * size)
        killed = journal.read_bytes()
    file.write_bytes(backup)
    journal.write_bytes(killed)
    with pytest.raises(DstackError, match="do not fit together") as told:
        await server(settings_in(tmp_path / "server")).__aenter__()
    assert "delete sqlite.db-wal and sqlite.db-shm" in (told.value.hint or "")
    assert (file.read_bytes(), journal.read_bytes()) == (backup, killed)


def overwrite(file: Path) -> None:
    file.write_bytes(b"not what it was " * 1024)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [overwrite, cut])
async def test_a_damaged_database_is_told_at_the_start_with_its_file_and_what_to_do(
    tmp_path: Path, first_started: FirstStart, damage: Callable[[Path], None]
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings = settings_in(tmp_path / "server")
    damage(settings.sqlite_path)
    with pytest.raises(DstackError, match=NOT_A_DATABASE) as told:
        await server(settings).__aenter__()
    assert str(settings.sqlite_path) in (told.value.hint or "") and "backup" in (told.value.hint or "")
