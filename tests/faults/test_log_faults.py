"""The logs cannot be stored for a while, or their files are damaged: what the host still has is not lost."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.faulty import DEADLINE_S, FLEET, remove_fleet, said, server
from support.http_api import Api, FirstStart, ended, reached, settings_in, task
from support.small_disk import small_disk

LINES = 400
# So many that the half which is printed during an outage is pulled in several pieces, of 256 KiB each at most.
MANY = 8000
LINE = "a line of some length, with its number, so that files are longer than nothing: "


def numbered(lines: int) -> str:
    return "".join(f"{LINE}{i}\n" for i in range(1, lines + 1))


EXPECTED = numbered(LINES)


def printing(go: Path, lines: int = LINES) -> str:
    """Prints the first half, waits for the file, prints the second half."""
    half = f"for i in $(seq %d %d); do echo '{LINE}'$i; done"
    return f"{half % (1, lines // 2)}; while [ ! -e {go} ]; do sleep 0.05; done; {half % (lines // 2 + 1, lines)}"


async def log_of(api: Api, run: dict) -> tuple[str, int]:
    """The text that a follower gets, and how many bytes it is told are lost."""
    answer = await api.raw("logs/follow", {"job_submission_id": run["latest_job_submission"]["id"]})
    pieces = [json.loads(line) for line in answer.text.splitlines()]
    data = b"".join(base64.b64decode(one["data"]) for one in pieces if "data" in one)
    return data.decode(), sum(one.get("lost", 0) for one in pieces)


async def stored(api: Api, folder: Path, lines: int) -> Path:
    """The file of the log when so many lines are in it."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            for file in folder.rglob("*.log"):
                if file.read_text().count("\n") >= lines:
                    return file
            await asyncio.sleep(0.02)


@pytest.mark.root
async def test_a_log_that_has_no_room_on_the_disk_is_whole_when_there_is_room_again(
    tmp_path: Path, first_started: FirstStart, caplog: pytest.LogCaptureFixture
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    with small_disk(tmp_path / "server" / "logs") as disk:
        async with server(settings_in(tmp_path / "server")) as api:
            await api.call("fleets/apply", {"plan": {"spec": FLEET}})
            await api.call("runs/apply", {"plan": {"run_spec": task(printing(tmp_path / "go", MANY), name="r")}})
            await stored(api, disk.folder, MANY // 2)
            disk.fill()
            (tmp_path / "go").touch()
            await reached(api, "r", "terminating")
            async with asyncio.timeout(DEADLINE_S):
                while not said(caplog, "cannot be stored: No space left on device"):
                    await asyncio.sleep(0.05)
            disk.free()
            run = await ended(api, "r")
            assert run["status"] == "done"
            assert await log_of(api, run) == (numbered(MANY), 0)
            await remove_fleet(api)
    assert said(caplog, "cannot be stored") == 1


def shorten(file: Path) -> None:
    os.truncate(file, 1000)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [shorten, remove])
async def test_a_log_that_is_shortened_while_the_host_has_it_is_pulled_again(
    tmp_path: Path, first_started: FirstStart, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    async with server(settings_in(tmp_path / "server")) as api:
        await api.call("fleets/apply", {"plan": {"spec": FLEET}})
        await api.call("runs/apply", {"plan": {"run_spec": task(printing(tmp_path / "go"), name="r")}})
        damage(await stored(api, tmp_path / "server" / "logs", LINES // 2))
        (tmp_path / "go").touch()
        run = await ended(api, "r")
        assert await log_of(api, run) == (EXPECTED, 0)
        await remove_fleet(api)
    assert said(caplog, "somebody shortened it") == 1


@pytest.mark.parametrize("damage", [shorten, remove])
async def test_of_a_log_that_is_damaged_afterwards_the_rest_is_read_and_the_missing_bytes_are_told(
    tmp_path: Path, first_started: FirstStart, damage: Callable[[Path], None]
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    async with server(settings_in(tmp_path / "server")) as api:
        run = await finished(api, tmp_path)
        file = await stored(api, tmp_path / "server" / "logs", LINES)
        damage(file)
        left = file.stat().st_size if file.exists() else 0
        assert await log_of(api, run) == (EXPECTED[:left], len(EXPECTED) - left)
        for descending in (False, True):
            page = {"run_name": "r", "job_submission_id": run["latest_job_submission"]["id"], "limit": 1000}
            lines = (await api.call("logs/poll", page | {"descending": descending}))["logs"]
            text = [base64.b64decode(one["message"]).decode() for one in lines]
            assert sorted(text) == sorted(EXPECTED[:left].splitlines(keepends=True))
        await remove_fleet(api)


@pytest.mark.parametrize("content", [b"", b"\xff" * 4096, b"torn"])
async def test_a_damaged_index_costs_the_instants_and_no_byte_of_the_log(
    tmp_path: Path, first_started: FirstStart, content: bytes
):
    shutil.copytree(first_started.folder, tmp_path / "server")
    async with server(settings_in(tmp_path / "server")) as api:
        run = await finished(api, tmp_path)
        file = await stored(api, tmp_path / "server" / "logs", LINES)
        file.with_suffix(".idx").write_bytes(content)
        assert await log_of(api, run) == (EXPECTED, 0)
        page = {"run_name": "r", "job_submission_id": run["latest_job_submission"]["id"], "limit": 1000}
        lines = (await api.call("logs/poll", page))["logs"]
        assert "".join(base64.b64decode(one["message"]).decode() for one in lines) == EXPECTED
        await remove_fleet(api)


async def finished(api: Api, folder: Path) -> dict:
    await api.call("fleets/apply", {"plan": {"spec": FLEET}})
    (folder / "go").touch()
    await api.call("runs/apply", {"plan": {"run_spec": task(printing(folder / "go"), name="r")}})
    return await ended(api, "r")
