"""What a project configures about its backends: creates, changes, removes and shows them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.backends.base import Backend, BackendConfig, UsesServer
from dstack.errors import AccessDenied, ConfigurationError, DstackError, ResourceExists, ResourceNotFound
from dstack.model.configurations.document import load
from dstack.model.configurations.messages import illegal_text
from dstack.model.configurations.server_config import backend_settings
from dstack.model.event import Event, EventTarget
from dstack.model.instance import Instance
from dstack.server.auth.identity import Access
from dstack.server.parts import Parts
from dstack.server.services.chores import begin_sweep
from dstack.server.services.rows import fetch, live
from dstack.server.services.wire import backends as wire
from dstack.server.store.commit import record_events
from dstack.server.store.tables import TABLES
from dstack.server.store.tables import backend as backend_t

CHECK_DEADLINE_S = 60.0
API = "api"


async def create(parts: Parts, access: Access, config: BackendConfig) -> dict[str, Any]:
    """The stored configuration, rendered. Raises DstackError, ConfigurationError, ResourceExists, AccessDenied."""
    type_ = await check(parts, access.project.id, config, trusted=access.user.is_admin)
    async with parts.database.write() as connection:
        if await _sealed(connection, access.project.id, type_) is not None:
            raise ResourceExists(f"The project {access.project.name} has a backend {type_} already")
        await put(parts, connection, access.project.id, config, API)
        await _record(connection, parts, access, f"Backend {type_} created")
    settled(parts, access.project.id)
    return wire.config(config)


async def change(parts: Parts, access: Access, config: BackendConfig) -> dict[str, Any]:
    """As `create`, for one that exists. Raises ResourceNotFound."""
    type_ = await check(parts, access.project.id, config, trusted=access.user.is_admin)
    async with parts.database.write() as connection:
        if await _sealed(connection, access.project.id, type_) is None:
            raise _absent(access, type_)
        await put(parts, connection, access.project.id, config, API)
        await _record(connection, parts, access, f"Backend {type_} updated")
    settled(parts, access.project.id)
    return wire.config(config)


async def remove(parts: Parts, access: Access, types: Sequence[str]) -> None:
    """All or none. Raises ResourceNotFound, or DstackError when one still has instances."""
    wanted = sorted(set(types))
    async with parts.database.write() as connection:
        found = set(await stored(connection, access.project.id))
        for type_ in wanted:
            if type_ not in found:
                raise _absent(access, type_)
        used = await in_use(connection, access.project.id, wanted)
        if used:
            listed = ", ".join(f"{type_} has {count}" for type_, count in used.items())
            raise DstackError(
                f"Instances must be gone before their backend is deleted: {listed}",
                hint="delete the fleets that use it, or their instances, and try again",
            )
        await discard(connection, access.project.id, wanted)
        for type_ in wanted:
            await _record(connection, parts, access, f"Backend {type_} deleted")
    settled(parts, access.project.id)


async def config_of(parts: Parts, access: Access, type_: str) -> dict[str, Any]:
    """The configuration as it was written, credentials included. Raises ResourceNotFound."""
    async with parts.database.read() as connection:
        sealed = await _sealed(connection, access.project.id, type_)
    if sealed is None:
        raise _absent(access, type_)
    return parts.backends.unseal(sealed)


async def configs_of(parts: Parts, connection: AsyncConnection, ids: Collection[str]) -> Mapping[str, list[dict]]:
    """The configurations of the backends of each of the projects."""
    statement = select(backend_t.c.project_id, backend_t.c.config).where(backend_t.c.project_id.in_(sorted(ids)))
    found: defaultdict[str, list[dict]] = defaultdict(list)
    for project_id, sealed in await connection.execute(statement):
        found[project_id].append(parts.backends.unseal(sealed))
    return found


def read_yaml(text: str) -> dict[str, Any]:
    """A backend's configuration in YAML. Raises ConfigurationError."""
    data, positions = load(text, "config_yaml")
    if not isinstance(data, dict):
        raise ConfigurationError("config_yaml: expected a mapping that begins with `type: BACKEND`")
    return backend_settings(data, positions)


def to_yaml(config: BackendConfig) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


async def check(parts: Parts, project_id: str, config: BackendConfig, *, trusted: bool) -> str:
    """The type of a configuration that is legal and whose credentials work. Raises DstackError saying what is not.

    `trusted`: whoever wrote it runs the server, or is an admin of it.
    """
    type_ = config.get("type")
    if illegal_text(dict(config)) or not _plain(config):
        raise ConfigurationError("The backend's configuration is not plain data")
    if not isinstance(type_, str) or not type_:
        raise ConfigurationError("type: expected the name of a backend")
    if type_ in parts.backends.own or type_ == "local":
        raise DstackError(
            f"The backend {type_} belongs to the server, not to a project",
            hint="DSTACK_SERVER_LOCAL_BACKEND switches it",
        )
    made = parts.backends.make(project_id, config)
    _check_machine(made, may_use=trusted or parts.settings.local_enabled)
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            await made.check_credentials()
    except TimeoutError:
        raise DstackError(f"The backend {type_} did not say within {CHECK_DEADLINE_S:.0f} s who we are") from None
    return type_


async def put(parts: Parts, connection: AsyncConnection, project_id: str, config: BackendConfig, origin: str) -> None:
    """Store it, in place of what there is of its type."""
    key = {"project_id": project_id, "type": config["type"]}
    values = {"config": parts.backends.seal(config), "origin": origin, "updated_at": parts.clock.now()}
    if await _sealed(connection, project_id, config["type"]) is None:
        await connection.execute(insert(backend_t).values(**key, **values))
        await begin_sweep(connection, project_id, config["type"], parts.clock.now())
    else:
        await connection.execute(update(backend_t).where(_of(project_id, [config["type"]])).values(**values))


async def stored(connection: AsyncConnection, project_id: str, origin: str | None = None) -> dict[str, bytes]:
    """Encrypted configurations by type, of one origin or all."""
    statement = select(backend_t.c.type, backend_t.c.config).where(backend_t.c.project_id == project_id)
    if origin is not None:
        statement = statement.where(backend_t.c.origin == origin)
    return {type_: sealed for type_, sealed in await connection.execute(statement)}


async def in_use(connection: AsyncConnection, project_id: str, types: Collection[str]) -> dict[str, int]:
    """How many instances that are not gone each of the types has; absent: none."""
    rows = await fetch(connection, Instance, TABLES["instance"].c.project_id == project_id, live(Instance))
    counts = Counter(row.offer.backend for row in rows)
    return {type_: counts[type_] for type_ in sorted(types) if counts[type_]}


async def discard(connection: AsyncConnection, project_id: str, types: Collection[str]) -> None:
    await connection.execute(delete(backend_t).where(_of(project_id, types)))


def settled(parts: Parts, project_id: str) -> None:
    """After a commit: the new backends count from now on."""
    parts.backends.changed(project_id)
    parts.offers.forget()
    parts.engine.kick()


def _check_machine(made: Backend, *, may_use: bool) -> None:
    """Anybody may make a project and be its admin; the server's machine, with its database and keys, is not theirs by
    that. Where jobs may run on it anyway, as on a laptop, there is nothing to keep. Raises AccessDenied."""
    if isinstance(made, UsesServer) and made.uses_server and not may_use:
        raise AccessDenied(
            "Access denied",
            hint=f"this {made.name} would use the server's machine, which an admin of the server, or its config.yml, "
            "allows; with `run: pretend` and no `folder` it does not",
        )


async def _sealed(connection: AsyncConnection, project_id: str, type_: str) -> bytes | None:
    return (await connection.execute(select(backend_t.c.config).where(_of(project_id, [type_])))).scalar()


def _of(project_id: str, types: Collection[str]) -> Any:
    return and_(backend_t.c.project_id == project_id, backend_t.c.type.in_(sorted(types)))


def _plain(config: Mapping[str, Any]) -> bool:
    """Dates and other values that YAML can say cannot be stored as they are."""
    try:
        json.dumps(dict(config))
    except (TypeError, ValueError):
        return False
    return True


def _absent(access: Access, type_: str) -> ResourceNotFound:
    return ResourceNotFound(f"The project {access.project.name} has no backend {type_}")


async def _record(connection: AsyncConnection, parts: Parts, access: Access, message: str) -> None:
    target = EventTarget("project", access.project.id, access.project.name)
    await record_events(connection, [Event(message, (target,), access.user.id, access.project.id)], parts.clock.now())
