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
from sqlalchemy.engine import make_url

from dstack import __version__
from dstack.agent.bundle import build
from dstack.backends.base import Backend, BackendContext
from dstack.backends.registry import Registry
from dstack.backends.ssh.backend import SshBackend
from dstack.clock import Clock
from dstack.errors import DstackError
from dstack.model.row import Ref
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.node_keys import NodeKeys
from dstack.server.auth.sealing import open_cipher
from dstack.server.effects.acts import ActRunner, Handler
from dstack.server.effects.gauges import Gauges
from dstack.server.effects.gpu_use import GpuUse
from dstack.server.effects.instances import InstanceEffects
from dstack.server.effects.links import HostLinks
from dstack.server.effects.presence import ACTS, Presence
from dstack.server.effects.probes import ProbeRunner, within_reach
from dstack.server.effects.repos import RepoTrees
from dstack.server.effects.tasks import TaskEffects
from dstack.server.effects.upkeep import upkeep
from dstack.server.engine.loop import Dispatch, Engine
from dstack.server.exclusive import exclusive
from dstack.server.logs.files import LogStore
from dstack.server.membership import enter, leave, myself, recheck
from dstack.server.meter import Meter
from dstack.server.parts import Parts
from dstack.server.recovery import Recovery
from dstack.server.routes import install
from dstack.server.services import backends_file, bootstrap, chores
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.configured import with_file
from dstack.server.services.hosts import StoredHosts
from dstack.server.services.offers import OffersService
from dstack.server.services.repos import resolve_repo_creds
from dstack.server.services.secrets import resolve_secrets
from dstack.server.settings import Settings
from dstack.server.store.blobs import BlobStore
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.migrate import one_at_a_time, upgrade
from dstack.server.store.news import News
from dstack.server.store.servers import Member
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable
from dstack.ssh.host import Hosts

log = logging.getLogger(__name__)


@dataclass
class Running:
    """A started server. `token` is shown once: it is set when the admin's token is new."""

    parts: Parts
    token: str | None
    workers: Sequence[Callable]
    presence: Presence


def http_app(parts: Parts) -> FastAPI:
    """The ASGI application over parts that are running already. Several may live in one process."""
    app = FastAPI(title="dstack", version=__version__, docs_url=None, redoc_url=None)
    app.state.parts = parts
    install(app)
    return app


@asynccontextmanager
async def running(
    settings: Settings, clock: Clock, hosts: Hosts | None = None, store_class: type[Store] = Store
) -> AsyncIterator[Running]:
    """Everything but HTTP: data folder, database, engine, effects, links. Raises DstackError when it cannot start.

    `hosts` is how hosts of one's own are reached; None: over SSH.
    """
    with exclusive(settings.data_dir, settings.resolved_database_url):
        file = backends_file.read(settings.data_dir, settings.default_project)
        settings = with_file(settings, file)
        try:
            cipher, database, token = await _open(settings, clock)
        except DatabaseUnavailable as e:
            raise DstackError(str(e), hint=_where(settings)) from e
        try:
            me = myself(settings)
            server = _wire(settings, clock, cipher, database, token, me, hosts, store_class)
            await enter(database, settings, me, clock)
            try:
                async with one_at_a_time(database.url):
                    await backends_file.apply(server.parts, file)
                    await chores.begin_all(database, clock.now(), server.parts.owner, server.parts.backends.own)
                async with _working(server.workers):
                    yield server
            finally:
                await leave(server.presence)
                await server.parts.offers.aclose()
                await server.parts.backends.aclose()
        finally:
            await database.close()


def _where(settings: Settings) -> str:
    """What to do about a database that cannot be opened."""
    if make_url(settings.resolved_database_url).get_backend_name() != "sqlite":
        return "DSTACK_DATABASE_URL says which one; does it run, and may this machine reach it?"
    file = make_url(settings.resolved_database_url).database
    return f"it is the file {file}: restore a backup of it, or `sqlite3 {file} .recover` what can be read"


async def _open(settings: Settings, clock: Clock) -> tuple[Cipher, Database, str | None]:
    await upgrade(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    try:
        async with one_at_a_time(database.url):
            cipher = await open_cipher(database, settings.data_dir / "encryption.key", settings.encryption_keys)
            project, token = settings.default_project, settings.admin_token
            token = await bootstrap.ensure(database, cipher, clock.now(), project, token)
    except BaseException:
        await database.close()
        raise
    return cipher, database, token


def _wire(
    settings: Settings,
    clock: Clock,
    cipher: Cipher,
    database: Database,
    token: str | None,
    me: Member,
    hosts: Hosts | None,
    store_class: type[Store],
) -> Running:
    owner = me.id
    backends = _backends(settings, clock, cipher, database, hosts)
    # A SQLite file has one server: there is nobody to tell.
    url, heard, missed = settings.resolved_database_url, lambda t: presence.heard(t), lambda: presence.missed()
    news = None if database.sqlite else News(url, me.session, heard, missed)
    meter = Meter()
    changes = Changes(clock.now(), lambda keys: presence.tell(keys))
    offers = OffersService(backends, clock, me.id)
    store = store_class(database, offers.all)
    logs = LogStore(settings.storage_dir / "logs", database, changes)
    blobs = BlobStore(settings.storage_dir / "blobs")
    gauges = Gauges(database, changes)

    kick_engine, kick_acts = lambda: engine.kick(), lambda: acts.kick()
    recheck_me = partial(recheck, database, settings, me, clock)
    presence = Presence(store, me, clock, changes, news, kick_engine, kick_acts, recheck_me)
    of_links = logs, gauges, clock, backends, kick_engine, kick_acts
    links = presence.links = HostLinks(store, me.id, *of_links, lambda: presence.others)
    instances = InstanceEffects(store, backends, clock)
    creds_of = partial(resolve_repo_creds, database, cipher)
    trees = RepoTrees(
        settings.data_dir / "repos", blobs, creds_of, settings.repo_size_limit, loopback=settings.repos_of_loopback
    )
    secrets_of, keys = partial(resolve_secrets, database, cipher), NodeKeys(database, cipher)
    tasks = TaskEffects(store, links, blobs, secrets_of, settings, trees, node_keys=keys)
    own_work = upkeep(store, backends, logs, blobs, settings, clock, owner)
    handlers = {**_handlers(instances, tasks), **own_work.handlers}
    acts = ActRunner(store, clock, owner, handlers, settings.act_workers, kick_engine, presence.scan_s, meter)
    describe = within_reach(database, owner, instances.describe)
    measure = {("job", "measure_gpus"): GpuUse(store).measure}
    askers = {("instance", "describe_instance"): describe, **measure, **own_work.askers}
    probes = ProbeRunner(askers, kick_engine)

    def recorded() -> None:
        acts.kick()
        presence.tell([ACTS])  # the host may be another server's

    def touched(refs: set[Ref]) -> None:
        changes.publish(f"{ref.kind}:{ref.id}" for ref in refs)
        links.notice(refs)

    engine = Engine(store, clock, owner, Dispatch(recorded, probes.ask, touched), presence.scan_s, meter)
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
        meter=meter,
    )
    recovery = Recovery(database, kick_engine, kick_acts)
    own = meter.run, recovery.run, engine.run, acts.run, links.run, probes.run, presence.run
    workers = (*own, *((news.run,) if news else ()))
    return Running(parts, token, workers, presence)


def _handlers(instances: InstanceEffects, tasks: TaskEffects) -> dict[tuple[str, str], Handler]:
    """Who carries out which act of which kind of resource."""
    return {
        ("instance", "create_instance"): instances.create,
        ("instance", "terminate_instance"): instances.terminate,
        ("job", "start_task"): tasks.start,
        ("job", "stop_task"): tasks.stop,
        ("job", "remove_task"): tasks.remove,
        ("job", "warn_task"): tasks.warn,
    }


def _backends(
    settings: Settings, clock: Clock, cipher: Cipher, database: Database, hosts: Hosts | None
) -> ProjectBackends:
    registry = Registry.installed()

    def context(folder: str) -> BackendContext:
        return BackendContext(
            folder=settings.data_dir / folder,
            bundle=lambda: build(settings.data_dir / "agent"),
            python=sys.executable,
            clock=clock,
        )

    book, bundle = StoredHosts(database, cipher), lambda: build(settings.data_dir / "agent")
    ssh = SshBackend(_over_ssh if hosts is None else lambda: hosts, book, bundle)
    own: dict[str, Backend] = {ssh.name: ssh}
    if settings.local_enabled:
        local = {"type": "local", "runtime": settings.local_runtime, "docker_host": settings.local_docker_host}
        own["local"] = registry.make(local, context("local"))
    return ProjectBackends(database, cipher, clock, registry, own, context("backends"))


def _over_ssh() -> Hosts:
    """Loaded when the first host of an SSH fleet is reached: a quarter of a second that others need not wait."""
    from dstack.ssh.hosts import SshHosts

    return SshHosts()


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
