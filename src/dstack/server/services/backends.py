"""The backends of a project: the server's own, and those that the project configured, made once and kept."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from dstack.backends.base import Backend, BackendConfig, BackendContext, Closes
from dstack.backends.registry import Registry
from dstack.clock import Clock
from dstack.errors import DstackError
from dstack.server.auth.cipher import Cipher
from dstack.server.store.database import Database
from dstack.server.store.tables import backend as backend_t

log = logging.getLogger(__name__)
# Changes made through this server are seen at once, those of another after this time.
FRESH_S = 5.0


@dataclass(frozen=True)
class _Made:
    """`sealed` is the configuration as it is stored; `backend` is None when it cannot be made from it."""

    sealed: bytes
    backend: Backend | None


@dataclass
class _Project:
    lock: asyncio.Lock
    loaded_at: float = -1.0
    made: dict[str, _Made] | None = None


class ProjectBackends:
    """`own` belong to the server and serve every project. `context` is lent to backends; its folder holds theirs."""

    def __init__(
        self,
        database: Database,
        cipher: Cipher,
        clock: Clock,
        registry: Registry,
        own: Mapping[str, Backend],
        context: BackendContext,
    ):
        self.registry = registry
        self.own = dict(own)
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._context = context
        self._projects: dict[str, _Project] = {}

    async def of_project(self, project_id: str) -> Mapping[str, Backend]:
        """By type. One that cannot be made is left out, and the log says why."""
        project = self._projects.setdefault(project_id, _Project(asyncio.Lock()))
        async with project.lock:
            if project.made is None or self._clock.now() - project.loaded_at >= FRESH_S:
                await self._load(project_id, project)
            made = project.made or {}
        return self.own | {type_: one.backend for type_, one in made.items() if one.backend is not None}

    async def find(self, project_id: str, type_: str) -> Backend | None:
        return (await self.of_project(project_id)).get(type_)

    def changed(self, project_id: str) -> None:
        """The stored backends of the project are others now."""
        if project := self._projects.get(project_id):
            project.loaded_at = -1.0

    def make(self, project_id: str, config: BackendConfig) -> Backend:
        """A backend of the project by this configuration. Raises BackendError or ConfigurationError."""
        folder = self._context.folder / project_id / Path(str(config.get("type"))).name
        context = BackendContext(folder, self._context.bundle, self._context.python, self._context.clock)
        return self.registry.make(config, context)

    def seal(self, config: BackendConfig) -> bytes:
        return self._cipher.encrypt(json.dumps(dict(config)).encode())

    def unseal(self, sealed: bytes) -> dict:
        return json.loads(self._cipher.decrypt(sealed))

    async def aclose(self) -> None:
        """Let go of all; their machines go on."""
        made = [one.backend for project in self._projects.values() for one in (project.made or {}).values()]
        self._projects.clear()
        await _close([*self.own.values(), *(one for one in made if one is not None)])

    async def _load(self, project_id: str, project: _Project) -> None:
        at = self._clock.now()
        statement = select(backend_t.c.type, backend_t.c.config).where(backend_t.c.project_id == project_id)
        async with self._database.read() as connection:
            stored = {type_: sealed for type_, sealed in await connection.execute(statement)}
        before = project.made or {}
        kept = {type_: one for type_, one in before.items() if stored.get(type_) == one.sealed}
        new = {type_: self._made(project_id, type_, sealed) for type_, sealed in stored.items() if type_ not in kept}
        project.made, project.loaded_at = kept | new, at
        await _close([one.backend for type_, one in before.items() if type_ not in kept and one.backend is not None])

    def _made(self, project_id: str, type_: str, sealed: bytes) -> _Made:
        try:
            return _Made(sealed, self.make(project_id, self.unseal(sealed)))
        except (DstackError, OSError) as e:
            log.error("the backend %s of project %s cannot be used: %s", type_, project_id, e)
            return _Made(sealed, None)


async def _close(backends: Iterable[Backend]) -> None:
    for one in backends:
        if isinstance(one, Closes):
            with suppress(DstackError, OSError):
                await one.aclose()
