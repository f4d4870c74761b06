"""An old backup is restored, or an uploaded archive is damaged: nothing is killed, and people are told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest

from support.faulty import DEADLINE_S, FLEET, names_of_runs, server
from support.http_api import Api, FirstStart, ended, gone, reached, settings_in, task


@pytest.mark.parametrize("aged", [False, True], ids=["of-a-moment-ago", "of-days-ago"])
async def test_work_that_an_old_backup_does_not_know_runs_to_its_end(
    tmp_path: Path, first_started: FirstStart, aged: bool
):
    """Of one of days ago, the time to idle of the machine that it knows is over."""
    shutil.copytree(first_started.folder, tmp_path / "server")
    settings = settings_in(tmp_path / "server")
    backup, go, lived = tmp_path / "backup.db", tmp_path / "go", tmp_path / "lived"
    waits = f"while [ ! -e {go} ]; do sleep 0.05; done; echo $DSTACK_RUN_NAME >> {lived}"
    async with server(settings) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        await api.call("runs/apply", {"plan": {"run_spec": task(name="old")}})
        await ended(api, "old")
    shutil.copy(settings.sqlite_path, backup)
    async with server(settings) as api:
        for name in ("on-a-known-machine", "on-a-new-machine"):
            await api.call("runs/apply", {"plan": {"run_spec": task(waits, name=name)}})
            await reached(api, name, "running")
    machines = sorted((settings.data_dir / "local").iterdir())
    assert len(machines) == 2
    shutil.copy(backup, settings.sqlite_path)
    if aged:
        age(settings.sqlite_path)

    async with server(settings) as api:
        assert await names_of_runs(api) == {"old"}
        await told(api, "runs a task that no job of this server answers for")
        await api.call("runs/apply", {"plan": {"run_spec": task(name="new")}})
        new = await ended(api, "new")
        assert new["status"] == "done", "the server works on with what it knows"
        assert new["latest_job_submission"]["job_provisioning_data"]["instance_id"] not in {m.name for m in machines}
        go.touch()
        async with asyncio.timeout(DEADLINE_S):
            while not lived.exists() or lived.read_text().count("\n") < 2:
                await asyncio.sleep(0.05)
        await end_machines(api, settings.data_dir / "local")


def age(file: Path) -> None:
    """As if the backup had been made long ago."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE instance SET idle_since = 1, idle_deadline = 2")
        for table in ("instance", "fleet"):
            connection.execute(f"UPDATE {table} SET due_at = 2 WHERE due_at IS NOT NULL")
        connection.commit()


async def told(api: Api, words: str) -> None:
    """Until the instance that the backup knows says so."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            instances = (await api.call("fleets/get", {"name": "f"}))["instances"]
            if words in str(instances[0]["x_message"]) or words in str(await api.call("/api/events/list", {})):
                return
            await asyncio.sleep(0.05)


async def test_a_damaged_archive_fails_the_job_in_words_and_the_next_submission_sends_it_anew(
    tmp_path: Path, first_started: FirstStart
):
    data = archive("right")
    hash_ = hashlib.sha256(data).hexdigest()
    shutil.copytree(first_started.folder, tmp_path / "server")
    async with server(settings_in(tmp_path / "server")) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        sent = await api.call("/api/files/upload_archive", files={"file": (hash_, data)})
        api.parts.blobs.path(hash_).write_bytes(archive("wrong"))
        await api.call("runs/apply", {"plan": {"run_spec": using(sent)}})
        run = await ended(api, "r")
        assert run["status"] == "failed"
        assert f"The code archive {hash_[:12]} is damaged on the server" in str(run["latest_job_submission"])
        await api.call("/api/files/get_archive_by_hash", {"hash": hash_}, status=400)
        sent = await api.call("/api/files/upload_archive", files={"file": (hash_, data)})
        await api.call("runs/apply", {"plan": {"run_spec": using(sent)}})
        assert (await ended(api, "r"))["status"] == "done"
        await end_machines(api, tmp_path / "server" / "local")


def using(sent: dict) -> dict:
    return task("cat there/file", name="r") | {"file_archives": [{"id": sent["id"], "path": "there"}]}


def archive(text: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


async def end_machines(api: Api, folder: Path) -> None:
    """The fleet, and what a person ends who has looked at it."""
    found = await api.call("fleets/get", {"name": "f"})
    await api.call("fleets/delete", {"names": ["f"]})
    async with asyncio.timeout(DEADLINE_S):
        await gone(api, found["id"])
    for left in folder.iterdir():
        await api.parts.backends.own["local"].terminate_instance(left.name, None)
