"""The server's `config.yml`: makes the projects and backends that stand there, and removes those that no longer do."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sqlalchemy import select

from dstack.errors import ConfigurationError, DstackError
from dstack.model.configurations.server_config import ProjectEntry, ServerConfig, read_server_config
from dstack.model.event import Event, EventTarget
from dstack.server.parts import Parts
from dstack.server.services import backend_settings
from dstack.server.services.bootstrap import ADMIN, insert_project
from dstack.server.store.commit import record_events
from dstack.server.store.tables import project, user

log = logging.getLogger(__name__)
NAME = "config.yml"
FILE = "file"


def read(folder: Path, default_project: str) -> ServerConfig:
    """The file, made at the first start. Raises ConfigurationError with line and column."""
    path = folder / NAME
    if not path.exists():
        _write(path, f"projects:\n- name: {default_project}\n  backends: []\n")
    config = read_server_config(path.read_bytes(), str(path))
    if config.plugins:
        # A plugin may refuse or rewrite what people submit: a server that left it out would break the owner's rules.
        raise ConfigurationError(
            f"{path}: plugins: not supported yet by this server", hint="remove the key to start without them"
        )
    return config


async def apply(parts: Parts, config: ServerConfig) -> None:
    """Bring the stored backends in line. What cannot be done is told in the log and does not stop the server."""
    for entry in config.projects or ():
        project_id = await _project(parts, entry.name)
        if entry.backends is not None:
            await _backends(parts, project_id, entry)


async def _project(parts: Parts, name: str) -> str:
    async with parts.database.write() as connection:
        id_ = (await connection.execute(select(project.c.id).where(project.c.name == name))).scalar()
        if id_ is None:
            owner = (await connection.execute(select(user.c.id).where(user.c.username == ADMIN))).scalar_one()
            id_ = await insert_project(connection, parts.clock.now(), name, owner, is_public=False)
            event = Event("Project created from the server's file", (EventTarget("project", id_, name),), None, id_)
            await record_events(connection, [event], parts.clock.now())
    return id_


async def _backends(parts: Parts, project_id: str, entry: ProjectEntry) -> None:
    wanted = {}
    for backend in entry.backends or ():
        creds = {} if backend.creds is None else {"creds": backend.creds.model_dump()}
        wanted[backend.type] = {"type": backend.type, **backend.settings, **creds}
    for type_, config in wanted.items():
        try:
            await backend_settings.check(parts, project_id, config, trusted=True)
        except (DstackError, OSError) as e:
            log.warning("backend %s of project %s was left as it is: %s", type_, entry.name, e)
            continue
        async with parts.database.write() as connection:
            known = (await backend_settings.stored(connection, project_id)).get(type_)
            if known is None or parts.backends.unseal(known) != config:
                await backend_settings.put(parts, connection, project_id, config, FILE)
                log.info("backend %s of project %s was %s", type_, entry.name, "updated" if known else "created")
    await _remove(parts, project_id, entry.name, set(wanted))
    backend_settings.settled(parts, project_id)


async def _remove(parts: Parts, project_id: str, name: str, wanted: set[str]) -> None:
    """Those that came from the file and no longer stand there. Machines are never left without their backend."""
    async with parts.database.write() as connection:
        leaving = set(await backend_settings.stored(connection, project_id, FILE)) - wanted
        used = await backend_settings.in_use(connection, project_id, leaving)
        for type_, count in used.items():
            log.warning("backend %s of project %s still has %d instances and stays", type_, name, count)
        await backend_settings.discard(connection, project_id, leaving - set(used))


def _write(path: Path, text: str) -> None:
    """Only the server's user may read it: credentials are written there."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
