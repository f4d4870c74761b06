"""The API over PostgreSQL. All tests of this folder run on it with DSTACK_TEST_DATABASE=postgresql; these always do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from dstack.backends.local.backend import LocalBackend
from support import postgres
from support.http_api import Api, FirstStart, client_of, first_start, fleet, standing_still, task

PATIENCE_S = 60.0
WAITERS = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@pytest.fixture(scope="module")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstStart]:
    with postgres.running() as server:
        yield first_start(tmp_path_factory.mktemp("first-start") / "server", server)


@pytest.fixture
async def there(tmp_path: Path, on_postgresql: FirstStart, this_machine: LocalBackend) -> AsyncIterator[Api]:
    async with standing_still(tmp_path / "server", on_postgresql, this_machine) as parts, client_of(parts) as http:
        yield Api(http, parts)


async def test_people_and_their_rights(there: Api) -> None:
    ann = await there.user("ann", "manager")
    await ann.call("/api/projects/create", {"project_name": "lab"})
    assert [one["project_name"] for one in await ann.call("/api/projects/list", {"ascending": True})] == ["main", "lab"]
    fresh = await ann.call("/api/users/refresh_token", {"username": "ann"})
    await ann.call("/api/users/get_my_user", status=403)
    ann = there.having(fresh["creds"]["token"])
    await ann.call("secrets/create_or_update", {"name": "X", "value": "hush"})
    assert (await ann.call("secrets/get", {"name": "X"}))["value"] == "hush"


async def test_runs_are_submitted_paged_and_filtered(there: Api) -> None:
    await there.call("fleets/apply", {"plan": {"spec": fleet()}})
    for name in ("one", "two", "three"):
        await there.call("runs/apply", {"plan": {"run_spec": task("true", name=name)}})
    await there.call("runs/stop", {"runs_names": ["one"], "abort": True})
    first = await there.call("/api/runs/list", {"limit": 2})
    page = {"prev_submitted_at": first[-1]["submitted_at"], "prev_run_id": first[-1]["id"]}
    rest = await there.call("/api/runs/list", page)
    assert [one["run_spec"]["run_name"] for one in first + rest] == ["three", "two", "one"]
    answer = await there.call("/api/runs/list", {"username": "nobody"}, status=400)
    assert answer["detail"][0]["code"] == "resource_not_exists"


async def test_events_are_paged_in_their_order(there: Api) -> None:
    for name in ("A", "B"):
        await there.call("secrets/create_or_update", {"name": name, "value": "v"})
    first = await there.call("/api/events/list", {"limit": 1})
    page = {"prev_recorded_at": first[0]["recorded_at"], "prev_id": first[0]["id"], "limit": 1}
    rest = await there.call("/api/events/list", page)
    assert [one["targets"][0]["name"] for one in first + rest] == ["B", "A"]


async def test_repositories_and_keys_have_their_constraints(there: Api) -> None:
    creds = {"clone_url": "https://example.org/x", "oauth_token": "t"}
    body = {"repo_id": "x", "repo_info": {"repo_type": "virtual"}, "repo_creds": creds}
    await there.call("repos/init", body)
    await there.call("repos/init", body)
    assert await there.call("repos/delete", {"repos_ids": ["x"]}) is None
    assert await there.call("repos/list") == []


async def test_projects_are_deleted_in_one_order_so_that_nobody_waits_for_one_who_waits(there: Api) -> None:
    url = there.parts.database.url.replace("+asyncpg", "")
    names = ["a", "b"]
    for name in names:
        await there.call("/api/projects/create", {"project_name": name})
    holder, look = [await asyncpg.connect(url) for _ in range(2)]
    first, last = await holder.fetch("SELECT id FROM project WHERE name IN ('a', 'b') ORDER BY id")
    # Left to itself PostgreSQL finds rows as they were written: the one that is to be locked first is written last.
    await holder.execute("UPDATE project SET is_public = is_public WHERE id = $1", first["id"])
    async with holder.transaction():
        await holder.execute("SELECT 1 FROM project WHERE id = $1 FOR UPDATE", first["id"])
        deleting = asyncio.ensure_future(there.call("/api/projects/delete", {"projects_names": names}))
        async with asyncio.timeout(PATIENCE_S):
            while not await look.fetchval(WAITERS):
                await asyncio.sleep(0.02)
        async with look.transaction():
            await look.execute("SELECT 1 FROM project WHERE id = $1 FOR UPDATE NOWAIT", last["id"])
    await deleting
    await holder.close()
    await look.close()


async def test_runs_of_a_repository_are_found_beyond_a_page_of_others(there: Api) -> None:
    for name, repo in (("ours", "lab"), ("theirs", "other"), ("nobodys", None)):
        await there.call("runs/apply", {"plan": {"run_spec": task("true", name=name) | {"repo_id": repo}}})
    found = await there.call("/api/runs/list", {"project_name": "main", "repo_id": "lab", "limit": 1})
    assert [one["run_spec"]["run_name"] for one in found] == ["ours"]
