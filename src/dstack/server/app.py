"""A server from its start to its end: opens its folder and database, runs its parts, stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from sqlalchemy.engine import make_url

from dstack import __version__
from dstack.clock import Clock
from dstack.errors import DstackError
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.sealing import open_cipher
from dstack.server.exclusive import exclusive
from dstack.server.membership import enter, leave, myself
from dstack.server.parts import Parts
from dstack.server.routes import install
from dstack.server.services import backends_file, bootstrap, chores
from dstack.server.services.configured import with_file
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from dstack.server.store.direct import check_sessions
from dstack.server.store.migrate import one_at_a_time, upgrade
from dstack.server.store.store import Store
from dstack.server.store.trouble import DatabaseUnavailable, remedy
from dstack.server.wiring import Ground, wire
from dstack.ssh.host import Hosts


@dataclass
class Running:
    """A started server. `token` is shown once: it is set when the admin's token is new."""

    parts: Parts
    token: str | None


def http_app(parts: Parts) -> FastAPI:
    """The ASGI application over parts that are running already. Several may live in one process."""
    app = FastAPI(title="dstack", version=__version__, docs_url=None, redoc_url=None)
    app.state.parts = parts
    install(app)
    return app


@asynccontextmanager
async def running(
    settings: Settings,
    clock: Clock,
    hosts: Hosts | None = None,
    store_class: type[Store] = Store,
    database_class: type[Database] = Database,
) -> AsyncIterator[Running]:
    """Everything but HTTP: data folder, database, engine, effects, links. Raises DstackError when it cannot start.

    `hosts` is how hosts of one's own are reached; None: over SSH.
    """
    with exclusive(settings.data_dir, settings.resolved_database_url, settings.url):
        file = backends_file.read(settings.data_dir, settings.default_project)
        settings = with_file(settings, file)
        with _explained(settings):
            cipher, database, token = await _open(settings, clock, database_class)
        try:
            me = myself(settings)
            wired = wire(Ground(settings, clock, cipher, database, me, hosts, store_class))
            parts = wired.parts
            with _explained(settings):
                await enter(database, settings, me, clock)
            try:
                with _explained(settings):
                    async with one_at_a_time(database.url):
                        await backends_file.apply(parts, file)
                        await chores.begin_all(database, clock.now(), parts.owner, parts.backends.own)
                async with _working(wired.workers):
                    yield Running(parts, token)
            finally:
                try:
                    await leave(wired.presence)
                finally:
                    await parts.offers.aclose()
                    await parts.backends.aclose()
        finally:
            await database.close()


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """A database that cannot be used while the server starts is a DstackError with what to do about it."""
    try:
        yield
    except DatabaseUnavailable as e:
        raise DstackError(str(e), hint=remedy(settings.resolved_database_url, str(e))) from e


async def _open(
    settings: Settings, clock: Clock, database_class: type[Database]
) -> tuple[Cipher, Database, str | None]:
    if make_url(settings.resolved_database_url).get_backend_name() != "sqlite":
        await check_sessions(settings.resolved_database_url)
    await upgrade(settings.resolved_database_url)
    database = database_class(settings.resolved_database_url)
    try:
        async with one_at_a_time(database.url):
            cipher = await open_cipher(database, settings.data_dir / "encryption.key", settings.encryption_keys)
            project, token = settings.default_project, settings.admin_token
            token = await bootstrap.ensure(database, cipher, clock.now(), project, token)
    except BaseException:
        await database.close()
        raise
    return cipher, database, token


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
