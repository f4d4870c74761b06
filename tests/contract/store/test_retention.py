"""Retention over both databases: what is old goes, what anything still needs stays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from dstack.model.chore import Chore
from dstack.model.event import Event, EventTarget
from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobStatus
from dstack.model.row import Ref, Row
from dstack.model.run import FileArchiveMapping, Run, RunStatus
from dstack.server.effects.retention_rows import BATCH
from dstack.server.services.chores import begin_all
from dstack.server.services.rows import fetch, insert_rows
from dstack.server.settings import DAY_S, Keep, Settings
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.commit import record_events
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.tables import TABLES, act, archive, event, event_target, job_metric
from support import builders
from support.yard import START, Yard

LONG_AGO = START - 400 * DAY_S


async def round_(yard: Yard) -> dict[str, int]:
    """One round of retention, to its end; what it deleted."""
    one = ClaimedAct(Ref("chore", "r"), "apply_retention", "t", {}, 0, START, "me", 1)
    outcome = await yard.upkeep.handlers["chore", "apply_retention"](one)
    return outcome.seen[0][1].removed  # type: ignore[union-attr]


async def add(yard: Yard, *rows: Row) -> None:
    async with yard.database.write() as connection:
        for row in rows:
            await insert_rows(connection, [row], START * 100)


async def count(yard: Yard, table: Any) -> int:
    async with yard.database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar() or 0


def ended_run(name: str, at: float, **fields: Any) -> tuple[Run, Job]:
    run = builders.run(name, status=RunStatus.DONE, finished_at=at, submitted_at=at)
    job = builders.jobs_of(run, status=JobStatus.DONE, finished_at=at)[0]
    return run.replace(**fields), job


async def test_events_older_than_thirty_days_go_with_their_targets_and_younger_ones_stay(yard: Yard):
    async with yard.database.write() as connection:
        for age in range(BATCH + 50):
            one = Event(f"old {age}", (EventTarget("run", "r", "r"),))
            await record_events(connection, [one], START - 31 * DAY_S)
        await record_events(connection, [Event("young", (EventTarget("run", "r", "r"),))], START - 29 * DAY_S)
    assert (await round_(yard))["events"] == BATCH + 50
    async with yard.database.read() as connection:
        assert (await connection.execute(select(event.c.message))).scalars().all() == ["young"]
    assert await count(yard, event_target) == 1


async def test_metrics_older_than_an_hour_go(yard: Yard):
    rows = [{"job_id": "j", "at": START - age, "sample": "{}"} for age in (10, 3599, 3601, 9000)]
    async with yard.database.write() as connection:
        await connection.execute(insert(job_metric), rows)
    await round_(yard)
    async with yard.database.read() as connection:
        left = (await connection.execute(select(job_metric.c.at).order_by(job_metric.c.at))).scalars().all()
    assert left == [START - 3599, START - 10]


async def test_a_run_of_last_year_goes_with_its_jobs_and_logs(yard: Yard):
    old, young = ended_run("old", LONG_AGO), ended_run("young", START - DAY_S)
    await add(yard, *old, *young)
    for _, job in (old, young):
        await yard.logs.append(job.project_id, job.id, 0, b"hello\n", ((0, START),), True)
    await round_(yard)
    assert await _names(yard, Run) == ["young"]
    assert await count(yard, TABLES["job"]) == 1
    assert [path.stem for path in (yard.settings.data_dir / "logs").rglob("*.log")] == [young[1].id]


async def test_a_deleted_run_goes_after_a_week(yard: Yard):
    deleted, hidden = ended_run("a", START - 8 * DAY_S, deleted=True), ended_run("b", START - 6 * DAY_S, deleted=True)
    await add(yard, *deleted, *hidden, *ended_run("c", START - 8 * DAY_S))
    await round_(yard)
    assert await _names(yard, Run) == ["b", "c"]


async def test_a_run_that_goes_on_is_kept_however_old_it_is(yard: Yard):
    run = builders.run("long", status=RunStatus.RUNNING, submitted_at=LONG_AGO)
    await add(yard, run, *builders.jobs_of(run, status=JobStatus.RUNNING))
    assert "runs" not in await round_(yard)


async def test_a_run_whose_task_is_still_to_be_removed_from_its_host_is_kept(yard: Yard):
    run, job = ended_run("old", LONG_AGO)
    await add(yard, run, job)
    row = {"token": "t", "kind": "job", "resource_id": job.id, "verb": "remove_task", "payload": "{}"}
    async with yard.database.write() as connection:
        await connection.execute(insert(act).values(**row, created_at=START, due_at=START * 100))
    await round_(yard)
    assert await _names(yard, Run) == ["old"]


async def test_the_log_of_a_job_that_ended_long_ago_goes_and_the_run_stays(yard: Yard):
    run, job = ended_run("old", START - 91 * DAY_S)
    await add(yard, run, job)
    await yard.logs.append(job.project_id, job.id, 0, b"hello\n", ((0, START),), True)
    assert (await round_(yard))["logs"] == 1
    assert (await yard.logs.read(job.project_id, job.id, 0, 100)).data == b""
    assert await _names(yard, Run) == ["old"]
    assert "logs" not in await round_(yard)


async def test_a_terminated_instance_goes_when_no_job_names_it_and_its_fleet_after_it(yard: Yard):
    fleet = builders.fleet("gone", status=FleetStatus.TERMINATED, finished_at=LONG_AGO)
    ended = {"of": fleet, "status": InstanceStatus.TERMINATED, "finished_at": LONG_AGO}
    free, named = builders.instance(0, **ended), builders.instance(1, **ended)
    run, job = ended_run("young", START - DAY_S)
    await add(yard, fleet, free, named, run, job.replace(instance_id=named.id))
    await round_(yard)
    assert await _names(yard, Instance) == [named.name]
    assert await _names(yard, Fleet) == ["gone"]
    await yard.forget(job)
    await round_(yard)
    assert await _names(yard, Fleet) == []


async def test_an_upload_that_no_run_names_goes_with_its_bytes(yard: Yard):
    used, unused = await upload(yard, b"used"), await upload(yard, b"unused")
    run, job = ended_run("r", START - DAY_S)
    spec = run.spec.model_copy(update={"file_archives": (FileArchiveMapping(id="i", path="/w", hash=used),)})
    await add(yard, run.replace(spec=spec), job)
    fresh = await upload(yard, b"fresh", age_s=60.0)
    await round_(yard)
    assert [yard.blobs.has(one) for one in (used, unused, fresh)] == [True, False, True]
    assert await count(yard, archive) == 2


async def test_what_is_to_be_kept_for_ever_is_kept(url: str, tmp_path: Path):
    await upgrade(url)
    yard = Yard(Database(url), tmp_path, Settings(data_dir=tmp_path, keep=Keep(runs_s=0.0, logs_s=0.0)))
    await add(yard, *ended_run("old", LONG_AGO))
    await round_(yard)
    assert await _names(yard, Run) == ["old"]
    await yard.database.close()


async def test_retention_comes_again_every_hour(yard: Yard):
    for _ in range(2):
        await begin_all(yard.database, START, "me", ())
    yard.clock.at += 300
    await yard.settle()
    async with yard.database.read() as connection:
        (row,) = await fetch(connection, Chore, TABLES["chore"].c.name == "retention")
    assert (row.rounds, row.next_at) == (1, yard.clock.at + 3600)


async def upload(yard: Yard, data: bytes, age_s: float = 31 * DAY_S) -> str:
    """An upload of that age; its hash."""
    hash_, at = hashlib.sha256(data).hexdigest(), START - age_s

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    await yard.blobs.put(hash_, pieces(), 1000)
    os.utime(yard.blobs.path(hash_), (at, at))
    row = {"id": hash_[:8], "user_id": "u", "hash": hash_, "size": len(data), "created_at": at}
    async with yard.database.write() as connection:
        await connection.execute(insert(archive).values(**row))
    return hash_


async def _names(yard: Yard, cls: type[Row]) -> list[str]:
    async with yard.database.read() as connection:
        table = TABLES[cls.kind]
        return sorted((await connection.execute(select(table.c.name))).scalars())
