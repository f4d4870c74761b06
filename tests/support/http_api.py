"""A real application over a real database, spoken to by HTTP; each answer is held to the public API's document."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from dstack.agent.bundle import build
from dstack.backends.base import BackendContext
from dstack.backends.local.backend import LocalBackend
from dstack.backends.registry import Registry
from dstack.clock import WallClock
from dstack.server.app import http_app, running
from dstack.server.auth.cipher import Cipher, load_keys
from dstack.server.logs.files import LogStore
from dstack.server.parts import Parts
from dstack.server.services import bootstrap
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.offers import OffersService
from dstack.server.settings import Rules, Settings
from dstack.server.store.blobs import BlobStore
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.store import Store
from support import openapi, own_document, postgres
from support.restoring import Restored

TOKEN = "the-admin-token"
DEADLINE_S = 30.0


@dataclass
class Api:
    """One caller. `call` answers the decoded body and insists on the status; `raw` the response."""

    http: httpx.AsyncClient
    parts: Parts
    token: str | None = TOKEN
    project: str = "main"

    async def raw(self, path: str, body: Any = None, *, method: str = "POST", **options: Any) -> httpx.Response:
        """`path` is absolute, or relative to the project."""
        url = path if path.startswith("/") else f"/api/project/{self.project}/{path}"
        headers = options.pop("headers", {})
        if self.token is not None:
            headers = {"Authorization": f"Bearer {self.token}", **headers}
        if body is not None:
            options["json"] = body
        response = await self.http.request(method, url, headers=headers, **options)
        if response.headers.get("content-type") == "application/json":
            openapi.check(response)
            own_document.check(response)
        return response

    async def call(self, path: str, body: Any = None, *, status: int = 200, **options: Any) -> Any:
        response = await self.raw(path, body, **options)
        assert response.status_code == status, (response.status_code, response.text)
        return response.json()

    def having(self, token: str | None, project: str = "main") -> Api:
        """Another caller of the same server."""
        return Api(self.http, self.parts, token, project)

    async def user(self, name: str, role: str | None = None, global_role: str = "user") -> Api:
        """A new user, with that role in the project."""
        made = await self.call("/api/users/create", {"username": name, "global_role": global_role})
        if role is not None:
            members = {"members": [{"username": name, "project_role": role}]}
            await self.call(f"/api/projects/{self.project}/add_members", members)
        return self.having(made["x_token"])


class StillEngine:
    """Nothing is decided: rows stay as the routes wrote them."""

    def kick(self) -> None:
        pass


@dataclass(frozen=True)
class FirstStart:
    """A data folder and, on PostgreSQL, the database after the first start of a server.

    Tests have copies of the folder; the database is put back for each.
    """

    folder: Path
    database_url: str | None
    database: Restored | None = None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str | None]:
    """The base URL of a PostgreSQL when DSTACK_TEST_DATABASE says that the tests use one, else None: SQLite."""
    kind = os.environ.get("DSTACK_TEST_DATABASE", "sqlite")
    assert kind in ("sqlite", "postgresql"), "DSTACK_TEST_DATABASE is sqlite or postgresql"
    if kind == "sqlite":
        yield None
        return
    with postgres.running() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, postgresql: str | None) -> Settings:
    """Of a server that has never been started."""
    return settings_in(tmp_path / "server", postgres.new_database(postgresql) if postgresql else None)


def settings_in(folder: Path, database_url: str | None = None) -> Settings:
    return Settings(data_dir=folder, admin_token=TOKEN, local_runtime="process", database_url=database_url)


@pytest.fixture(scope="session")
def first_started(tmp_path_factory: pytest.TempPathFactory, postgresql: str | None) -> FirstStart:
    return first_start(tmp_path_factory.mktemp("first-start") / "server", postgresql)


def first_start(folder: Path, server: str | None) -> FirstStart:
    """`server`: the base URL of a PostgreSQL; None is SQLite."""
    url = postgres.new_database(server) if server else None
    asyncio.run(_first_start(settings_in(folder, url)))
    return FirstStart(folder, url, Restored(url) if url else None)


@pytest.fixture(scope="session")
def this_machine(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    """The backend of this machine, which looks at it once for all tests. It starts nothing here."""
    folder = tmp_path_factory.mktemp("machine")
    bundle = build(folder / "agent")
    return LocalBackend(folder / "local", lambda: bundle, sys.executable, "process", None)


async def _first_start(settings: Settings) -> None:
    settings.sqlite_path.parent.mkdir(parents=True)
    await upgrade(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    cipher = Cipher(*load_keys(settings.data_dir / "encryption.key", (), may_create=True))
    await bootstrap.ensure(database, cipher, 1.0, settings.default_project, settings.admin_token)
    await database.close()


@pytest.fixture
async def still(tmp_path: Path, first_started: FirstStart, this_machine: LocalBackend) -> AsyncIterator[Parts]:
    async with standing_still(tmp_path / "server", first_started, this_machine) as parts:
        yield parts


@asynccontextmanager
async def standing_still(folder: Path, first: FirstStart, machine: LocalBackend) -> AsyncIterator[Parts]:
    """Everything that routes need, with an engine that stands still."""
    shutil.copytree(first.folder, folder)
    if first.database is not None:
        await first.database.put_back()
    settings = settings_in(folder, first.database_url)
    clock = WallClock()
    database = Database(settings.resolved_database_url)
    changes = Changes(clock.now())
    cipher = Cipher(*load_keys(settings.data_dir / "encryption.key", (), may_create=False))
    context = BackendContext(settings.data_dir / "backends", lambda: settings.data_dir, sys.executable, clock)
    own = {machine.name: machine}
    backends = ProjectBackends(database, cipher, clock, Registry.installed(), own, context)
    offers = OffersService(backends, clock)
    parts = Parts(
        settings=settings,
        clock=clock,
        database=database,
        store=Store(database, offers.all),
        engine=StillEngine(),
        changes=changes,
        logs=LogStore(settings.data_dir / "logs", database, changes),
        blobs=BlobStore(settings.data_dir / "blobs"),
        cipher=cipher,
        offers=offers,
        backends=backends,
        owner="test",
    )
    try:
        yield parts
    finally:
        await backends.aclose()
        await database.close()


@pytest.fixture
async def api(still: Parts) -> AsyncIterator[Api]:
    """The admin, on a server whose engine stands still."""
    async with client_of(still) as http:
        yield Api(http, still)


@pytest.fixture
async def live(settings: Settings) -> AsyncIterator[Api]:
    """The admin, on a whole running server: jobs run as processes of this machine."""
    async with running(settings, WallClock()) as server, client_of(server.parts) as http:
        admin = Api(http, server.parts)
        yield admin
        await _end_everything(admin)


async def _end_everything(admin: Api) -> None:
    """Agents outlive their server: leave none behind. Ends with an error when they do not go within a minute."""
    runs = await admin.call("/api/runs/list", {"project_name": "main", "only_active": True})
    await admin.call("runs/stop", {"runs_names": [run["run_name"] for run in _specs(runs)], "abort": True})
    async with asyncio.timeout(2 * DEADLINE_S):
        for run in _specs(runs):
            await ended(admin, run["run_name"])
        fleets = await admin.call("fleets/list")
        await admin.call("fleets/delete", {"names": [one["name"] for one in fleets]})
        for one in fleets:
            await gone(admin, one["id"])


async def ended(api: Api, run_name: str) -> dict[str, Any]:
    """The run when it is over."""
    return await reached(api, run_name, "done", "failed", "terminated")


async def reached(api: Api, run_name: str, *statuses: str) -> dict[str, Any]:
    """The run when it has one of the statuses; TimeoutError after a while."""
    return await watched(api, run_name, lambda run: run["status"] in statuses)


async def watched(api: Api, run_name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The run once the condition holds for it; TimeoutError after a while. What lasts only a moment may be missed."""
    seen = None
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.call("runs/watch", {"run_name": run_name, "seen": seen, "wait_s": 30})
            seen, run = answer["seen"], answer["run"]
            if condition(run):
                return run


async def gone(api: Api, fleet_id: str) -> None:
    """Return when the fleet is terminated."""
    keys = [f"fleet:{fleet_id}"]
    while True:
        seen = api.parts.changes.seq(keys)
        fleet = await api.call("fleets/get", {"id": fleet_id})
        if fleet["status"] == "terminated":
            return
        await api.parts.changes.wait(seen, keys, 30)


def _specs(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run["run_spec"] for run in runs]


def client_of(parts: Parts) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=http_app(parts), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://server", timeout=60)


@asynccontextmanager
async def under(api: Api, rules: Rules, **settings: Any) -> AsyncIterator[Api]:
    """The admin, on the same server started with other rules and settings."""
    parts = replace(api.parts, settings=replace(api.parts.settings, rules=rules, **settings))
    async with client_of(parts) as http:
        yield Api(http, parts)


def task(*commands: str, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A run spec as clients send it."""
    configuration = {"type": "task", "name": name, "commands": list(commands) or ["true"], **fields}
    return {"run_name": name, "configuration": configuration, "profile": None}


def fleet(name: str = "here", **fields: Any) -> dict[str, Any]:
    """A fleet spec as clients send it."""
    return {"configuration": {"type": "fleet", "name": name, "nodes": "0..2", **fields}, "profile": {"name": "default"}}
