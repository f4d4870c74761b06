"""The SQLite file is locked by another program for seconds, again and again: everybody waits, and nobody for ever."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from dstack.server.store.database import Database
from dstack.server.store.tables import meta
from dstack.server.store.trouble import DatabaseUnavailable
from support.faulty import DEADLINE_S, FLEET, healthy, names_of_runs, remove_fleet, said, server
from support.http_api import FirstStart, ended, settings_in, task

pytestmark = pytest.mark.timeout(300)
SLOW = "the database is slow: another program has kept its file locked for "
WAITING = 8
PATIENCE_S = 3.0
# Another program: locks the file for longer than what counts as slow, lets go for a moment, and again.
LOCKER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for _ in range(2):
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    time.sleep(6)
    connection.rollback()
    time.sleep(0.3)
"""


async def test_a_file_that_is_locked_again_and_again_slows_everything_and_stops_nothing(
    tmp_path: Path, first_started: FirstStart, caplog: pytest.LogCaptureFixture
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings, starts = settings_in(tmp_path / "server"), tmp_path / "starts"
    names = [f"r{n}" for n in range(2)]
    async with server(settings) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        command = sys.executable, "-c", LOCKER, str(settings.sqlite_path)
        locker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert locker.stdout is not None
        assert await locker.stdout.readline() == b"locked\n"
        spec = [task(f"echo $DSTACK_RUN_NAME >> {starts}", name=name) for name in names]
        calls = [asyncio.ensure_future(api.raw("runs/apply", {"plan": {"run_spec": one}})) for one in spec]
        async with asyncio.timeout(DEADLINE_S):
            while not (await healthy(api)).get("x_slow", "").startswith(SLOW):
                await asyncio.sleep(0.1)
            assert [(await call).status_code for call in calls] == [200] * len(names)
        for name in names:
            assert (await ended(api, name))["status"] == "done"
        assert await locker.wait() == 0
        assert sorted(starts.read_text().split()) == names
        assert await names_of_runs(api) == set(names)
        await remove_fleet(api)
    assert said(caplog, SLOW) == 1
    assert said(caplog, "cannot be used") == 0


async def test_those_that_wait_for_one_lock_are_refused_together_and_not_one_after_the_other(
    tmp_path: Path, first_started: FirstStart
):
    file = tmp_path / "sqlite.db"
    shutil.copy(settings_in(first_started.folder).sqlite_path, file)
    database = Database(f"sqlite:///{file}", patience_s=PATIENCE_S)
    locked = sqlite3.connect(file, isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")

    async def write(number: int) -> None:
        async with database.write() as connection:
            await connection.execute(meta.insert().values(key=f"k{number}", value=b""))

    began = time.monotonic()
    ends = await asyncio.gather(*(write(n) for n in range(WAITING)), return_exceptions=True)
    assert {type(end) for end in ends} == {DatabaseUnavailable}
    assert time.monotonic() - began < PATIENCE_S * WAITING / 2
    locked.close()
    await write(0)  # patient again
    await database.close()
