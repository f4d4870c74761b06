"""PostgreSQL is stopped and started again under a running server, which finds it by itself."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import postgres
from support.faulty import FLEET, healthy, names_of_runs, remove_fleet, said, server
from support.http_api import ended, first_start, reached, settings_in, task


@pytest.fixture
def own_postgresql() -> Iterator[postgres.Own]:
    with tempfile.TemporaryDirectory(prefix="dstack-pg-") as folder:
        own = postgres.Own(Path(folder))
        own.start()
        try:
            yield own
        finally:
            own.stop()


async def test_a_stopped_postgresql_is_waited_for_and_nothing_that_was_acknowledged_is_lost(
    tmp_path: Path, own_postgresql: postgres.Own, caplog: pytest.LogCaptureFixture
):
    first = await asyncio.to_thread(first_start, tmp_path / "server", own_postgresql.url)
    go = tmp_path / "go"
    waits = f"echo begun; while [ ! -e {go} ]; do sleep 0.05; done; echo ended"
    async with server(settings_in(first.folder, first.database_url)) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        await api.call("runs/apply", {"plan": {"run_spec": task(waits, name="through")}})
        await reached(api, "through", "running")
        await asyncio.to_thread(own_postgresql.stop)
        answer = await api.raw("runs/apply", {"plan": {"run_spec": task(name="refused")}})
        assert answer.status_code == 503
        assert answer.json()["detail"][0]["msg"].startswith("The database cannot be used: ")
        assert answer.headers["retry-after"]
        await healthy(api, status=503)
        go.touch()  # the job ends while nobody can write so
        await asyncio.to_thread(own_postgresql.start)
        await healthy(api)
        await api.call("runs/apply", {"plan": {"run_spec": task(name="after")}})
        assert (await ended(api, "through"))["status"] == "done"
        assert (await ended(api, "after"))["status"] == "done"
        assert await names_of_runs(api) == {"through", "after"}
        await remove_fleet(api)
    assert said(caplog, "the database can be used again") >= 1
    assert said(caplog, "the database cannot be used") <= 4, "one line for each reason, not one for each try"
    assert not [r for r in caplog.records if r.exc_info and r.levelno >= logging.ERROR]
