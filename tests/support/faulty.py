"""A server whose storage fails, for the tests of such faults: started in this process, asked by HTTP, listened to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from dstack.clock import WallClock
from dstack.server.app import running
from dstack.server.settings import Settings
from support.http_api import TOKEN, Api, client_of, gone, task

DEADLINE_S = 60.0
FLEET = {"configuration": {"type": "fleet", "name": "f", "nodes": "0..2"}}


@contextlib.asynccontextmanager
async def server(settings: Settings) -> AsyncIterator[Api]:
    async with running(settings, WallClock()) as started, client_of(started.parts) as http:
        yield Api(http, started.parts, TOKEN)


async def healthy(api: Api, *, status: int = 200) -> dict:
    """The health when it is as wanted."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.raw("/healthcheck", method="GET")
            if answer.status_code == status:
                return answer.json()
            await asyncio.sleep(0.05)


async def names_of_runs(api: Api) -> set[str]:
    runs = await api.call("/api/runs/list", {"project_name": "main", "limit": 100})
    return {run["run_spec"]["run_name"] for run in runs}


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records)


async def submit_until_refused(api: Api) -> tuple[set[str], dict]:
    """The names of the runs that were accepted, and the refusal."""
    stored: set[str] = set()
    for number in range(2000):
        answer = await api.raw("runs/apply", {"plan": {"run_spec": task(name=f"run-{number}")}})
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            return stored, answer.json()
        stored.add(f"run-{number}")
    raise AssertionError("the disk is not full")


async def remove_fleet(api: Api) -> None:
    found = await api.call("fleets/get", {"name": "f"})
    await api.call("fleets/delete", {"names": ["f"]})
    async with asyncio.timeout(DEADLINE_S):
        await gone(api, found["id"])
