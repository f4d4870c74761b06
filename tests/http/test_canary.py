"""A secret that a job uses is seen by the job alone."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from dstack.server.journal import Json
from support.http_api import DEADLINE_S, Api, ended, fleet, reached, task

CANARY = "canary-b7f3-4711"


async def test_a_canary_shows_nowhere_while_its_job_runs_nor_after_it(
    live: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await live.call("secrets/create_or_update", {"name": "KEY", "value": CANARY})
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    commands = ('test "$KEY" = "canary-b7f3-$((4000 + 711))"', "echo the secret came", "sleep 600")
    spec = task(*commands, name="canary", env={"KEY": "${{ secrets.KEY }}"})
    answers = [await live.call("runs/get_plan", {"run_spec": spec})]
    answers.append(await live.call("runs/apply", {"plan": {"run_spec": spec}}))
    run = await reached(live, "canary", "running")
    await until_logged(live, run["latest_job_submission"]["id"], "the secret came")
    assert command_lines_with(CANARY) == []
    answers += await everything(live, run["id"])
    await live.call("runs/stop", {"runs_names": ["canary"], "abort": False})
    answers += [await ended(live, "canary"), *await everything(live, run["id"])]
    assert CANARY not in str(answers)
    assert CANARY not in caplog.text
    assert files_with(live.parts.settings.data_dir, CANARY) == []


async def test_the_words_for_a_job_that_misses_a_secret_hold_none_of_the_others(live: Api) -> None:
    await live.call("secrets/create_or_update", {"name": "KEY", "value": CANARY})
    await live.call("fleets/apply", {"plan": {"spec": fleet()}})
    env = {"A": "${{ secrets.KEY }}", "B": "${{ secrets.absent }}"}
    await live.call("runs/apply", {"plan": {"run_spec": task("true", name="t", env=env)}})
    run = await ended(live, "t")
    why = await live.call("runs/why", {"run_name": "t"})
    assert "absent" in str(run["latest_job_submission"]["termination_reason_message"])
    assert CANARY not in str(run) + str(why)


async def everything(api: Api, run_id: str) -> list:
    """All that the API says of the run and of the project, apart from the secret itself."""
    return [
        await api.call("runs/get", {"id": run_id}),
        await api.call("/api/runs/list", {}),
        await api.call("runs/why", {"run_name": "canary"}),
        await api.call("/api/events/list", {}),
        await api.call("fleets/list"),
        await api.call("/api/instances/list", {}),
        await api.call("secrets/list"),
        await api.call("/api/projects/main/get"),
    ]


async def until_logged(api: Api, job_submission_id: str, text: str) -> None:
    """Return when the log holds the text; TimeoutError after a while."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            seen = api.parts.changes.seq([f"log:{job_submission_id}"])
            if files_with(api.parts.settings.data_dir / "logs", text):
                return
            await api.parts.changes.wait(seen, [f"log:{job_submission_id}"], 30)


def command_lines_with(text: str) -> list[str]:
    """Of all processes of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:  # gone meanwhile
            continue
        if text.encode() in line:
            found.append(str(path))
    return found


def files_with(folder: Path, text: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_a_canary_is_in_no_line_of_the_log_as_json(live: Api) -> None:
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    keeper, root = Keeper(logging.DEBUG), logging.getLogger()
    keeper.setFormatter(Json())
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    try:
        await live.call("secrets/create_or_update", {"name": "KEY", "value": CANARY})
        await live.call("fleets/apply", {"plan": {"spec": fleet()}})
        env = {"KEY": "${{ secrets.KEY }}"}
        for name, more, status in (("gets", {}, "done"), ("misses", {"ABSENT": "${{ secrets.absent }}"}, "failed")):
            spec = task('test "$KEY" = "canary-b7f3-$((4000 + 711))"', name=name, env=env | more)
            await live.call("runs/apply", {"plan": {"run_spec": spec}})
            assert (await ended(live, name))["status"] == status
    finally:
        root.removeHandler(keeper)
        root.setLevel(level)
    assert lines
    assert CANARY not in "".join(lines)
