"""`dstack server doctor` over both databases: what is well is said to be, what is not is named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from dstack import __version__
from dstack.errors import DstackError
from dstack.model.orphan import Orphan, OrphanOrigin
from dstack.model.wire.responses.records import Health, Refusal
from dstack.server.auth.sealing import open_cipher
from dstack.server.doctor.examine import examine, shown
from dstack.server.doctor.finding import Finding
from dstack.server.exclusive import exclusive
from dstack.server.logs import storage
from dstack.server.logs.files import LogStore
from dstack.server.services.rows import insert_rows
from dstack.server.settings import Settings
from dstack.server.store import servers
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.servers import Member
from dstack.server.store.tables import act
from support import builders
from support.wire_server import Status, WireServer
from support.yard import FAR, START, SetClock


class Patient:
    """A server's folder and database. Its port is one on which nobody answers."""

    def __init__(self, folder: Path, url: str):
        self.settings = Settings(data_dir=folder, database_url=url, port=1)
        self.database = Database(self.settings.resolved_database_url)
        self.clock = SetClock()

    async def findings(self) -> dict[str, Finding]:
        return {one.name: one for one in await examine(self.settings, self.clock)}

    async def sick(self) -> list[str]:
        """Names of the checks that failed, without the disk of the machine of this test."""
        return [name for name, one in (await self.findings()).items() if not one.ok and name != "disk"]

    async def add(self, *rows: Any, due_at: float = FAR) -> None:
        async with self.database.write() as connection:
            for row in rows:
                await insert_rows(connection, [row], due_at)


@pytest.fixture
async def patient(url: str, tmp_path: Path) -> AsyncIterator[Patient]:
    made = Patient(tmp_path, url)
    await upgrade(made.settings.resolved_database_url)
    await open_cipher(made.database, tmp_path / "encryption.key", ())
    yield made
    await made.database.close()


async def test_a_server_that_is_well_is_said_to_be(patient: Patient):
    assert await patient.sick() == []
    found = await patient.findings()
    assert list(found) == [
        "version", "server", "disk", "database", "schema", "servers", "encryption", "due", "acts", "inbox", "orphans",
        "chores", "logs",
    ]  # fmt: skip
    assert found["server"].data == {"running": False}


async def test_a_server_that_runs_and_does_not_answer_is_told(patient: Patient):
    own = patient.settings.data_dir, patient.settings.resolved_database_url
    for listens_at, asked in (("", "http://127.0.0.1:1"), ("http://[::1]:2", "http://[::1]:2")):
        with exclusive(*own, listens_at):
            found = (await patient.findings())["server"]
        assert not found.ok
        assert found.message == f"it uses {patient.settings.data_dir}, but does not answer at {asked}"
        assert found.data == {"running": True}


async def test_a_server_is_asked_where_it_listens_whatever_the_doctor_was_told(patient: Patient):
    own = patient.settings.data_dir, patient.settings.resolved_database_url
    with WireServer().on("/healthcheck", Health(status="running").model_dump(exclude_none=True)) as server:
        url = f"http://127.0.0.1:{server.port}"
        with exclusive(*own, "http://a-longer-one.example:65535"):
            pass
        with exclusive(*own, url):
            found = (await patient.findings())["server"]
    assert (found.ok, found.message) == (True, f"answers at {url}")


# `answer` to /healthcheck, and what is told of it.
SLOW = "the database is slow: a statement has not been answered for 7 s"
AWAY = "The database cannot be used: its disk is full"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Health(status="running").model_dump(exclude_none=True), ""),
        (Health(status="running", x_slow=SLOW).model_dump(), SLOW),
        (Status(503, Refusal(detail=[{"msg": AWAY, "code": None}]).model_dump()), AWAY),
    ],
)
async def test_a_server_that_runs_and_waits_for_its_database_is_not_well(patient: Patient, answer: Any, told: str):
    with WireServer().on("/healthcheck", answer) as server:
        patient.settings = replace(patient.settings, port=server.port)
        found = (await patient.findings())["server"]
    assert found.ok == (not told)
    assert found.message == f"answers at {patient.settings.url}" + (f": {told}" if told else "")
    assert found.data == {"running": True}


async def test_an_act_that_is_tried_in_vain_is_named_with_its_last_error(patient: Patient):
    row = {"token": "t", "kind": "instance", "resource_id": "i-1", "verb": "terminate_instance", "payload": "{}"}
    tried = {"attempts": 7, "last_error": "the credentials were revoked", "created_at": START - 3600, "due_at": FAR}
    async with patient.database.write() as connection:
        await connection.execute(insert(act).values(**row, **tried))
    assert await patient.sick() == ["acts"]
    assert (await patient.findings())["acts"].details == (
        "terminate_instance of instance i-1: tried 7 times since 1h, the last: the credentials were revoked",
    )


async def test_orphans_are_told(patient: Patient):
    values = {"origin": OrphanOrigin.UNKNOWN, "backend": "sim", "token": "tok", "backend_id": "i-9"}
    await patient.add(Orphan(id="o", project_id="", created_at=START, first_seen=START - 7200, **values))
    assert await patient.sick() == ["orphans"]
    assert (await patient.findings())["orphans"].details == ("sim machine i-9 (quarantined, unknown) since 2h: tok",)


async def test_what_is_overdue_is_told(patient: Patient):
    await patient.add(builders.fleet(), due_at=START - 600)
    found = (await patient.findings())["due"]
    assert found.data == {"overdue": 1}
    assert "(active) is due since 10m" in found.details[0]


async def test_another_encryption_key_is_told(patient: Patient):
    (patient.settings.data_dir / "encryption.key").write_text("ab" * 32 + "\n")
    assert await patient.sick() == ["encryption"]


async def test_a_log_that_is_shorter_than_what_was_acknowledged_is_told(patient: Patient):
    run = builders.run("t1")
    (job,) = builders.jobs_of(run)
    await patient.add(run, job)
    folder = patient.settings.data_dir / "logs"
    await LogStore(folder, patient.database, Changes(START)).append(
        job.project_id, job.id, 0, b"hello\n", ((0, START),), True
    )
    assert await patient.sick() == []
    next(folder.rglob("*.log")).write_bytes(b"he")
    assert await patient.sick() == ["logs"]
    assert "of run t1 has 2 of 6 bytes" in (await patient.findings())["logs"].details[0]


async def join(patient: Patient, name: str, version: str) -> None:
    """A server that lives for long, however slow this machine is."""
    me = Member(name, "1", f"{name}:/data", version)
    async with patient.database.write() as connection:
        await servers.join(connection, me, START)
        if connection.dialect.name != "sqlite":
            await servers.beat(connection, me, START, 3600.0, lambda: 0.0)


async def test_the_servers_of_a_database_are_listed_with_releases_that_are_not_this_one(patient: Patient):
    await join(patient, "a", __version__)
    await join(patient, "b", "0.1.0")
    found = (await patient.findings())["servers"]
    assert found.ok
    if patient.settings.database_url and "sqlite" in patient.settings.database_url:
        assert found.message == "last started 0s ago"
    else:
        assert found.message == "2 of 2 run"
        assert found.details == ("a:/data, started 0s ago", "b:/data, started 0s ago, with dstack 0.1.0")


async def test_what_is_overdue_fails_where_a_server_lives_elsewhere_and_not_where_none_does(patient: Patient):
    await patient.add(builders.fleet(), due_at=START - 600)
    assert await patient.sick() == []
    await join(patient, "a", __version__)
    on_one_host = "sqlite" in (patient.settings.database_url or "")
    assert await patient.sick() == ([] if on_one_host else ["due"])


async def test_the_disk_of_the_shared_folder_is_looked_at_and_whether_it_is_the_right_one(
    patient: Patient, tmp_path: Path
):
    shared = tmp_path / "shared"
    me = Member("a", "1", "a:/data", __version__)
    async with patient.database.write() as connection:
        await storage.check(connection, shared, me, START)
    assert "set DSTACK_SERVER_SHARED_DIR to it" in (await patient.findings())["logs"].message
    patient.settings = replace(patient.settings, shared_dir=shared)
    found = await patient.findings()
    assert str(shared) in found["shared"].message and found["logs"].ok
    (shared / storage.MARKER).unlink()
    assert "is it mounted?" in (await patient.findings())["logs"].message
    patient.settings = replace(patient.settings, shared_dir=tmp_path / "away")
    assert (await patient.findings())["shared"].message == f"{tmp_path / 'away'}: No such file or directory"


async def test_a_schema_of_another_release_ends_the_examination(patient: Patient):
    async with patient.database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    found = await patient.findings()
    assert await patient.sick() == ["schema"]
    assert "it was used by a newer release" in found["schema"].message
    assert "due" not in found


async def test_the_document_says_whether_all_is_well(patient: Patient):
    for well in (True, False):
        found = [one for one in (await patient.findings()).values() if one.name != "disk"]
        document = json.loads(shown(found, as_json=True))
        assert document["ok"] is well
        assert [one["name"] for one in document["checks"]] == [one.name for one in found]
        (patient.settings.data_dir / "encryption.key").write_text("ab" * 32 + "\n")


async def test_nothing_is_changed(tmp_path: Path):
    patient = Patient(tmp_path, f"sqlite:///{tmp_path / 'a.db'}")
    await upgrade(patient.settings.resolved_database_url)
    await patient.database.close()
    before = contents(tmp_path)
    await patient.findings()
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[Path, bytes]:
    """Of the files that hold something: SQLite leaves an empty journal and its index when who only reads is done."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {path: data for path in files if (data := path.read_bytes())}


async def test_a_database_that_cannot_be_reached_is_told_without_its_password(tmp_path: Path):
    patient = Patient(tmp_path, "postgresql://me:hush-hush@127.0.0.1:1/nowhere")
    found = (await patient.findings())["database"]
    assert not found.ok
    assert "hush" not in shown([found], as_json=True)


async def test_a_folder_without_a_server_is_an_error(tmp_path: Path):
    with pytest.raises(DstackError, match="There is no server database"):
        await examine(Settings(data_dir=tmp_path), SetClock())
