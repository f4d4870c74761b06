"""Logs and metrics of jobs."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

from sqlalchemy import insert, update

from dstack.server.logs.files import LogSize, LogStore
from dstack.server.store.tables import TABLES, job_metric
from support.http_api import Api, client_of, task

T0 = 1_700_000_000.0


async def start(api: Api, name: str = "t1") -> tuple[str, str]:
    """(project id, submission id) of a new run."""
    run = await api.call("runs/apply", {"plan": {"run_spec": task("true", name=name)}})
    project = await api.call("/api/projects/main/get")
    return project["project_id"], run["latest_job_submission"]["id"]


async def write(api: Api, ids: tuple[str, str], *lines: str, final: bool = False) -> None:
    """Store lines, a second apart."""
    offset = (await api.parts.logs.size(ids[1])).size
    for n, line in enumerate(lines):
        last = final and n == len(lines) - 1
        size = await api.parts.logs.append(*ids, offset, line.encode(), [(0, T0 + n)], last)
        offset = size.size


async def poll(api: Api, ids: tuple[str, str], **query: Any) -> tuple[list[str], str | None]:
    answer = await api.call("logs/poll", {"run_name": "t1", "job_submission_id": ids[1], **query})
    return [base64.b64decode(one["message"]).decode() for one in answer["logs"]], answer["next_token"]


async def test_lines_come_one_a_message_without_terminal_control(api: Api) -> None:
    ids = await start(api)
    await write(api, ids, "plain\n", "\x1b[31mred\x1b[0m\n", "open end")
    assert await poll(api, ids) == (["plain\n", "red\n", "open end"], None)


async def test_pages_of_lines_join(api: Api) -> None:
    ids = await start(api)
    await write(api, ids, *(f"{n}\n" for n in range(5)), final=True)
    lines, token = await poll(api, ids, limit=2)
    while token:
        more, token = await poll(api, ids, limit=2, next_token=token)
        lines += more
    assert lines == ["0\n", "1\n", "2\n", "3\n", "4\n"]


async def test_pages_go_backwards_too(api: Api) -> None:
    ids = await start(api)
    await write(api, ids, *(f"{n}\n" for n in range(5)), final=True)
    lines, token = await poll(api, ids, limit=2, descending=True)
    while token:
        more, token = await poll(api, ids, limit=2, descending=True, next_token=token)
        lines += more
    assert lines == ["4\n", "3\n", "2\n", "1\n", "0\n"]


async def test_lines_since_an_instant(api: Api) -> None:
    ids = await start(api)
    await write(api, ids, *(f"{n}\n" for n in range(4)))
    since = "2023-11-14T22:13:22Z"  # T0 + 2
    assert (await poll(api, ids, start_time=since))[0] == ["2\n", "3\n"]
    assert (await poll(api, ids, end_time=since))[0] == ["0\n", "1\n"]


async def test_a_long_log_is_paged_across_reads(api: Api) -> None:
    ids = await start(api)
    lines = [f"{n:06d} {'x' * 90}\n" for n in range(6000)]
    await write(api, ids, "".join(lines), final=True)
    found, token = await poll(api, ids, limit=1000)
    while token:
        more, token = await poll(api, ids, limit=1000, next_token=token)
        found += more
    assert found == lines
    last, _ = await poll(api, ids, limit=1000, descending=True)
    assert last == lines[:-1001:-1]


async def test_a_job_of_another_project_and_a_bad_token_are_refused(api: Api) -> None:
    ids = await start(api)
    await api.call("/api/projects/create", {"project_name": "lab"})
    body = {"run_name": "t1", "job_submission_id": ids[1]}
    answer = await api.having(api.token, "lab").call("logs/poll", body, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"
    await api.having(api.token, "lab").call("logs/follow", body, status=400)
    await api.call("logs/poll", body | {"next_token": "zzz"}, status=400)
    await api.call("logs/poll", body | {"job_submission_id": "11111111-1111-1111-8111-111111111111"}, status=422)


async def test_following_shows_each_piece_with_its_instant_and_ends_with_the_log(api: Api) -> None:
    ids = await start(api)
    await write(api, ids, "a\n", "\x1b[31mb\n")
    following = asyncio.create_task(api.raw("logs/follow", {"job_submission_id": ids[1]}))
    await write(api, ids, "c\n", final=True)
    response = await following
    pieces = [json.loads(line) for line in response.text.splitlines()]
    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert b"".join(base64.b64decode(piece.get("data", "")) for piece in pieces) == b"a\n\x1b[31mb\nc\n"
    assert pieces[0] == {"offset": 2, "at": T0, "data": base64.b64encode(b"a\n").decode()}
    assert pieces[-1] == {"end": True, "offset": 11, "lost": 0}


class AtTheLastMoment(LogStore):
    """Somebody's wait is over, and in that moment the last piece is stored."""

    project_id = ""

    async def wait(self, job_id: str, after: int, timeout_s: float) -> LogSize:
        before = await self.size(job_id)
        if not before.final:
            await self.append(self.project_id, job_id, before.size, b"last words\n", [(0, T0)], True)
        return before


async def test_what_is_stored_just_before_a_job_is_over_is_followed_to_its_end(api: Api) -> None:
    project_id, job_id = await start(api)
    async with api.parts.database.write() as connection:
        await connection.execute(update(TABLES["job"]).values(status="done", due_at=None))
    logs = AtTheLastMoment(api.parts.settings.data_dir / "logs", api.parts.database, api.parts.changes)
    logs.project_id = project_id
    async with client_of(replace(api.parts, logs=logs)) as http:
        other = Api(http, api.parts)
        lines = (await other.raw("logs/follow", {"job_submission_id": job_id})).text.splitlines()
    told = [json.loads(line) for line in lines]
    assert b"".join(base64.b64decode(one.get("data", "")) for one in told) == b"last words\n"
    assert told[-1] == {"end": True, "offset": 11, "lost": 0}


async def test_following_goes_on_at_an_offset_and_need_not_wait(api: Api) -> None:
    ids = await start(api)
    await write(api, ids, "abc\n")
    response = await api.raw("logs/follow", {"job_submission_id": ids[1], "offset": 2, "wait": False})
    pieces = [json.loads(line) for line in response.text.splitlines()]
    assert base64.b64decode(pieces[0]["data"]) == b"c\n"
    assert pieces[1:] == [{"end": True, "offset": 4, "lost": 0}]


async def test_metrics_are_named_as_clients_read_them_newest_first(api: Api) -> None:
    ids = await start(api)
    samples = [
        {"cpu_usage_us": 0, "memory_bytes": 5, "memory_working_set_bytes": 4, "gpus": []},
        {"cpu_usage_us": 15_000_000, "memory_bytes": 7, "memory_working_set_bytes": 6, "gpus": []},
    ]
    rows = [{"job_id": ids[1], "at": T0 + 10 * n, "sample": json.dumps(one)} for n, one in enumerate(samples)]
    async with api.parts.database.write() as connection:
        await connection.execute(insert(job_metric), rows)
    answer = await api.call("metrics/job/t1?replica_num=0&job_num=0&limit=1000", method="GET")
    found = {one["name"]: one["values"] for one in answer["metrics"]}
    assert found["cpu_usage_percent"] == [150, 0]
    assert found["memory_working_set_bytes"] == [6, 4]
    assert found["gpus_detected_num"] == [0, 0]
    assert (await api.call("metrics/job/t1?job_num=3", method="GET", status=400))["detail"][0]["msg"].endswith("job=3")


async def test_diagnostics_tell_what_the_server_did_with_the_job(api: Api) -> None:
    ids = await start(api)
    lines, token = await poll(api, ids, diagnose=True)
    assert lines[0] == "Job created on run submission. Status: SUBMITTED\n"
    assert token is None


async def test_the_first_sample_of_the_processor_counts_from_the_start_of_the_job(api: Api) -> None:
    ids = await start(api)
    sample = {"cpu_usage_us": 5_000_000, "memory_bytes": 5, "memory_working_set_bytes": 4, "gpus": []}
    async with api.parts.database.write() as connection:
        await connection.execute(insert(job_metric), [{"job_id": ids[1], "at": T0, "sample": json.dumps(sample)}])
        await connection.execute(update(TABLES["job"]).values(running_since=T0 - 10))
    answer = await api.call("metrics/job/t1", method="GET")
    assert next(one["values"] for one in answer["metrics"] if one["name"] == "cpu_usage_percent") == [50]
