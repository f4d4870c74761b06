"""The composition root: builds every part from settings, wires them together, starts and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI

from dstack import __version__
from dstack.agent.bundle import build
from dstack.backends.base import Backend, BackendContext
from dstack.backends.registry import Registry
from dstack.clock import Clock, WallClock
from dstack.ids import new_id
from dstack.model.row import Ref
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.sealing import open_cipher
from dstack.server.effects.acts import ActRunner, Handler
from dstack.server.effects.gauges import Gauges
from dstack.server.effects.instances import InstanceEffects
from dstack.server.effects.links import HostLinks
from dstack.server.effects.probes import ProbeRunner
from dstack.server.effects.tasks import TaskEffects
from dstack.server.effects.upkeep import upkeep
from dstack.server.engine.loop import Dispatch, Engine
from dstack.server.exclusive import exclusive
from dstack.server.logs.files import LogStore
from dstack.server.parts import Parts
from dstack.server.routes import install
from dstack.server.services import backends_file, bootstrap, chores
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.configured import with_file
from dstack.server.services.offers import OffersService
from dstack.server.services.secrets import resolve_secrets
from dstack.server.settings import Settings
from dstack.server.store.blobs import BlobStore
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from dstack.server.store.store import Store

log = logging.getLogger(__name__)


@dataclass
class Running:
    """A started server. `token` is shown once: it is set when the admin's token is new."""

    parts: Parts
    token: str | None
    workers: Sequence[Callable]


def create_app(settings: Settings, clock: Clock | None = None) -> FastAPI:
    """An ASGI application whose lifespan starts and stops the whole server. Several may live in one process."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, clock or WallClock()) as server:
            app.state.parts = server.parts
            app.state.new_token = server.token
            yield

    return _http(lifespan)


def http_app(parts: Parts) -> FastAPI:
    """The ASGI application over parts that are running already."""
    app = _http(None)
    app.state.parts = parts
    return app


def _http(lifespan: Callable | None) -> FastAPI:
    app = FastAPI(title="dstack", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    install(app)
    return app


@asynccontextmanager
async def running(settings: Settings, clock: Clock) -> AsyncIterator[Running]:
    """Everything but HTTP: data folder, database, engine, effects, links. Raises DstackError when it cannot start."""
    with exclusive(settings.data_dir):
        file = backends_file.read(settings.data_dir, settings.default_project)
        settings = with_file(settings, file)
        cipher, database, token = await _open(settings, clock)
        try:
            server = _wire(settings, clock, cipher, database, token)
            await server.parts.store.disown(server.parts.owner)
            try:
                await backends_file.apply(server.parts, file)
                await chores.begin_all(database, clock.now(), server.parts.owner, server.parts.backends.own)
                async with _working(server.workers):
                    yield server
            finally:
                await server.parts.backends.aclose()
        finally:
            await database.close()


async def _open(settings: Settings, clock: Clock) -> tuple[Cipher, Database, str | None]:
    await upgrade(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    try:
        cipher = await open_cipher(database, settings.data_dir / "encryption.key", settings.encryption_keys)
        token = await bootstrap.ensure(database, cipher, clock.now(), settings.default_project, settings.admin_token)
    except BaseException:
        await database.close()
        raise
    return cipher, database, token


def _wire(settings: Settings, clock: Clock, cipher: Cipher, database: Database, token: str | None) -> Running:
    owner = _owner(settings)
    backends = _backends(settings, clock, cipher, database)
    changes = Changes(clock.now())
    offers = OffersService(backends, clock)
    store = Store(database, offers.all)
    logs = LogStore(settings.data_dir / "logs", database, changes)
    blobs = BlobStore(settings.data_dir / "blobs")
    gauges = Gauges(database, changes)

    links = HostLinks(store, logs, gauges, clock, backends, lambda: engine.kick(), lambda: acts.kick())
    instances = InstanceEffects(store, backends)
    tasks = TaskEffects(store, links, blobs, partial(resolve_secrets, database, cipher), settings)
    own_work = upkeep(store, backends, logs, blobs, settings, clock, owner)
    handlers = {**_handlers(instances, tasks), **own_work.handlers}
    acts = ActRunner(store, clock, owner, handlers, settings.act_workers, lambda: engine.kick())
    askers = {("instance", "describe_instance"): instances.describe, **own_work.askers}
    probes = ProbeRunner(askers, lambda: engine.kick())

    def touched(refs: set[Ref]) -> None:
        changes.publish(f"{ref.kind}:{ref.id}" for ref in refs)
        links.notice(refs)

    engine = Engine(store, clock, owner, Dispatch(acts.kick, probes.ask, touched))
    parts = Parts(
        settings=settings,
        clock=clock,
        database=database,
        store=store,
        engine=engine,
        changes=changes,
        logs=logs,
        blobs=blobs,
        cipher=cipher,
        offers=offers,
        backends=backends,
        owner=owner,
    )
    return Running(parts, token, (engine.run, acts.run, links.run, probes.run))


def _handlers(instances: InstanceEffects, tasks: TaskEffects) -> dict[tuple[str, str], Handler]:
    """Who carries out which act of which kind of resource."""
    return {
        ("instance", "create_instance"): instances.create,
        ("instance", "terminate_instance"): instances.terminate,
        ("job", "start_task"): tasks.start,
        ("job", "stop_task"): tasks.stop,
        ("job", "remove_task"): tasks.remove,
    }


def _backends(settings: Settings, clock: Clock, cipher: Cipher, database: Database) -> ProjectBackends:
    registry = Registry.installed()

    def context(folder: str) -> BackendContext:
        return BackendContext(
            folder=settings.data_dir / folder,
            bundle=lambda: build(settings.data_dir / "agent"),
            python=sys.executable,
            clock=clock,
        )

    own: dict[str, Backend] = {}
    if settings.local_enabled:
        local = {"type": "local", "runtime": settings.local_runtime, "docker_host": settings.local_docker_host}
        own["local"] = registry.make(local, context("local"))
    return ProjectBackends(database, cipher, clock, registry, own, context("backends"))


def _owner(settings: Settings) -> str:
    """The name under which this server claims work: the same after a restart, so that it takes up its own claims."""
    file = settings.data_dir / "server.id"
    owner = file.read_text().strip() if file.exists() else ""
    if not owner:  # a crash, or a full disk, can have left it empty
        owner = new_id()
        file.write_text(owner)
    return owner


@asynccontextmanager
async def _working(workers: Sequence[Callable]) -> AsyncIterator[None]:
    """Run the workers while the block runs; one that dies takes the server down rather than leave it half alive."""
    async with asyncio.TaskGroup() as group:
        started = [group.create_task(worker()) for worker in workers]
        try:
            yield
        finally:
            for task in started:
                task.cancel()
