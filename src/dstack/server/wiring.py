"""The composition root: builds every part of a server from its settings and has them tell one another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from dstack.agent.bundle import build
from dstack.backends.base import Backend, BackendContext
from dstack.backends.registry import Registry
from dstack.backends.ssh.backend import SshBackend
from dstack.clock import Clock
from dstack.model.row import Ref
from dstack.server.auth.cipher import Cipher
from dstack.server.auth.node_keys import NodeKeys
from dstack.server.effects.acts import ActRunner, Handler
from dstack.server.effects.gauges import Gauges
from dstack.server.effects.gpu_use import GpuUse
from dstack.server.effects.instances import InstanceEffects
from dstack.server.effects.links import HostLinks
from dstack.server.effects.presence import ACTS, Presence
from dstack.server.effects.probes import Asker, ProbeRunner, within_reach
from dstack.server.effects.repos import RepoTrees
from dstack.server.effects.tasks import TaskEffects
from dstack.server.effects.upkeep import upkeep
from dstack.server.engine.loop import Dispatch, Engine
from dstack.server.logs.files import LogStore
from dstack.server.membership import recheck
from dstack.server.meter import Meter
from dstack.server.parts import Parts
from dstack.server.recovery import Recovery
from dstack.server.services.backends import ProjectBackends
from dstack.server.services.hosts import StoredHosts
from dstack.server.services.offers import OffersService
from dstack.server.services.repos import resolve_repo_creds
from dstack.server.services.secrets import resolve_secrets
from dstack.server.settings import Settings
from dstack.server.store.blobs import BlobStore
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.news import News
from dstack.server.store.servers import Member
from dstack.server.store.store import Store
from dstack.ssh.host import Hosts


class Ground(NamedTuple):
    """What a server stands on before any part of it is there.

    `hosts` is how hosts of one's own are reached; None: over SSH.
    """

    settings: Settings
    clock: Clock
    cipher: Cipher
    database: Database
    me: Member
    hosts: Hosts | None
    store_class: type[Store]


@dataclass(frozen=True)
class Wired:
    """`workers` are run for as long as the server lives."""

    parts: Parts
    workers: Sequence[Callable]
    presence: Presence


class _Bells:
    """Parts are built one after the other, and some tell those that come later: through here, once all are there."""

    engine: Engine
    acts: ActRunner
    links: HostLinks
    presence: Presence
    changes: Changes

    def kick_engine(self) -> None:
        self.engine.kick()

    def kick_acts(self) -> None:
        self.acts.kick()

    def recorded(self) -> None:
        """Acts were."""
        self.acts.kick()
        self.presence.tell([ACTS])  # the host may be another server's

    def touched(self, refs: set[Ref]) -> None:
        """Rows were, by a commit."""
        self.changes.publish(f"{ref.kind}:{ref.id}" for ref in refs)
        self.links.notice(refs)


class _Kept(NamedTuple):
    """What holds the server's state, and what asks providers."""

    store: Store
    changes: Changes
    logs: LogStore
    blobs: BlobStore
    backends: ProjectBackends
    offers: OffersService


def wire(ground: Ground) -> Wired:
    """All parts of a server, none of them at work yet."""
    settings, clock, database, me = ground.settings, ground.clock, ground.database, ground.me
    bells, meter = _Bells(), Meter()
    kept = _kept(ground, bells)
    news = _news(ground, bells)
    presence = bells.presence = _presence(ground, kept, bells, news)
    links = bells.links = presence.links = _links(ground, kept, bells)
    handlers, askers = _effects(ground, kept, links)
    pace = presence.scan_s, meter
    acts = ActRunner(kept.store, clock, me.id, handlers, settings.act_workers, bells.kick_engine, *pace)
    probes = ProbeRunner(askers, bells.kick_engine)
    engine = Engine(kept.store, clock, me.id, Dispatch(bells.recorded, probes.ask, bells.touched), *pace)
    bells.acts, bells.engine = acts, engine
    parts = Parts(
        settings=settings,
        clock=clock,
        database=database,
        engine=engine,
        cipher=ground.cipher,
        owner=me.id,
        meter=meter,
        **kept._asdict(),
    )
    recovery = Recovery(database, presence.missed)
    own = meter.run, recovery.run, engine.run, acts.run, links.run, probes.run, presence.run
    return Wired(parts, (*own, *((news.run,) if news else ())), presence)


def _kept(ground: Ground, bells: _Bells) -> _Kept:
    settings, clock, database = ground.settings, ground.clock, ground.database
    backends = _backends(ground)
    offers = OffersService(backends, clock, ground.me.id)
    changes = bells.changes = Changes(clock.now(), lambda keys: bells.presence.tell(keys))
    logs = LogStore(settings.storage_dir / "logs", database, changes)
    blobs = BlobStore(settings.storage_dir / "blobs")
    return _Kept(ground.store_class(database, offers.all), changes, logs, blobs, backends, offers)


def _news(ground: Ground, bells: _Bells) -> News | None:
    """None where there is nobody to tell: a SQLite file has one server."""
    if ground.database.sqlite:
        return None
    url, session = ground.settings.resolved_database_url, ground.me.session
    return News(url, session, lambda topics: bells.presence.heard(topics), lambda: bells.presence.missed())


def _presence(ground: Ground, kept: _Kept, bells: _Bells, news: News | None) -> Presence:
    may_go_on = partial(recheck, ground.database, ground.settings, ground.me, ground.clock)
    kicks = bells.kick_engine, bells.kick_acts
    return Presence(kept.store, ground.me, ground.clock, kept.changes, news, *kicks, may_go_on)


def _links(ground: Ground, kept: _Kept, bells: _Bells) -> HostLinks:
    gauges = Gauges(ground.database, kept.changes)
    kicks = bells.kick_engine, bells.kick_acts
    others = lambda: bells.presence.others  # noqa: E731
    return HostLinks(kept.store, ground.me.id, kept.logs, gauges, ground.clock, kept.backends, *kicks, others)


def _effects(
    ground: Ground, kept: _Kept, links: HostLinks
) -> tuple[Mapping[tuple[str, str], Handler], Mapping[tuple[str, str], Asker]]:
    """Who carries out which act of which kind of resource, and who answers which question about it."""
    settings, clock, database, owner = ground.settings, ground.clock, ground.database, ground.me.id
    instances, tasks = InstanceEffects(kept.store, kept.backends, clock), _tasks(ground, kept, links)
    upkept = upkeep(kept.store, kept.backends, kept.logs, kept.blobs, settings, clock, owner)
    handlers = {
        ("instance", "create_instance"): instances.create,
        ("instance", "terminate_instance"): instances.terminate,
        ("job", "start_task"): tasks.start,
        ("job", "stop_task"): tasks.stop,
        ("job", "remove_task"): tasks.remove,
        ("job", "warn_task"): tasks.warn,
    }
    askers = {
        ("instance", "describe_instance"): within_reach(database, owner, instances.describe),
        ("job", "measure_gpus"): GpuUse(kept.store).measure,
    }
    return {**handlers, **upkept.handlers}, {**askers, **upkept.askers}


def _tasks(ground: Ground, kept: _Kept, links: HostLinks) -> TaskEffects:
    settings, sealed = ground.settings, (ground.database, ground.cipher)
    creds_of, secrets_of = partial(resolve_repo_creds, *sealed), partial(resolve_secrets, *sealed)
    folder, loopback = settings.data_dir / "repos", settings.repos_of_loopback
    trees = RepoTrees(folder, kept.blobs, creds_of, settings.repo_size_limit, loopback=loopback)
    return TaskEffects(kept.store, links, kept.blobs, secrets_of, settings, trees, node_keys=NodeKeys(*sealed))


def _backends(ground: Ground) -> ProjectBackends:
    settings, clock, hosts = ground.settings, ground.clock, ground.hosts
    registry, bundle = Registry.installed(), partial(build, settings.data_dir / "agent")

    def context(folder: str) -> BackendContext:
        return BackendContext(settings.data_dir / folder, bundle, sys.executable, clock)

    book = StoredHosts(ground.database, ground.cipher)
    ssh = SshBackend(_over_ssh if hosts is None else lambda: hosts, book, bundle)
    own: dict[str, Backend] = {ssh.name: ssh}
    if settings.local_enabled:
        local = {"type": "local", "runtime": settings.local_runtime, "docker_host": settings.local_docker_host}
        own["local"] = registry.make(local, context("local"))
    return ProjectBackends(ground.database, ground.cipher, clock, registry, own, context("backends"))


def _over_ssh() -> Hosts:
    """Loaded when the first host of an SSH fleet is reached: a quarter of a second that others need not wait."""
    from dstack.ssh.hosts import SshHosts

    return SshHosts()
