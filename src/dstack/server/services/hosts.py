"""The book of hosts: how one gets onto each host of an SSH fleet. Private keys lie sealed, and go to SSH only."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.backends.ssh.book import KnownHost
from dstack.errors import DstackError
from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.instance import Instance, InstanceStatus
from dstack.server.auth.cipher import Cipher
from dstack.server.store.codec import decode
from dstack.server.store.database import Database
from dstack.server.store.tables import TABLES, host_access
from dstack.ssh.host import Credentials, PinnedKeys


class StoredHosts:
    """The `HostBook` of the SSH backend, over the server's database."""

    def __init__(self, database: Database, cipher: Cipher):
        self._database = database
        self._cipher = cipher

    async def find(self, instance_id: str) -> KnownHost | None:
        async with self._database.read() as connection:
            instance = await _instance(connection, instance_id)
            if instance is None or instance.remote is None:
                return None
            row = (await connection.execute(select(host_access).where(_entry(instance)))).first()
        if row is None:
            return None
        return KnownHost(instance.remote, unseal(self._cipher, row.sealed), PinnedKeys(row.host_key, row.proxy_key))

    async def pin(self, instance_id: str, pinned: PinnedKeys) -> None:
        async with self._database.write() as connection:
            instance = await _instance(connection, instance_id)
            if instance is None:
                return
            # What is pinned stays: only a person voids it.
            values = {
                "host_key": func.coalesce(host_access.c.host_key, pinned.host),
                "proxy_key": func.coalesce(host_access.c.proxy_key, pinned.proxy),
            }
            await connection.execute(update(host_access).where(_entry(instance)).values(**values))

    async def forget(self, instance_id: str) -> None:
        async with self._database.write() as connection:
            instance = await _instance(connection, instance_id)
            if instance is None or instance.remote is None:
                return
            fleet = await _fleet(connection, instance.fleet_id)
            if fleet is not None and _names(fleet, instance.remote.key):
                void = {"host_key": None, "proxy_key": None}
                await connection.execute(update(host_access).where(_entry(instance)).values(**void))
            else:
                await connection.execute(delete(host_access).where(_entry(instance)))

    async def tokens(self) -> Sequence[str]:
        table = TABLES["instance"]
        there = and_(table.c.remote.is_not(None), table.c.data.is_not(None))
        async with self._database.read() as connection:
            living = table.c.status != InstanceStatus.TERMINATED
            found = await connection.execute(select(table).where(there, living))
            return [decode(Instance, m).token for m in found.mappings()]


def seal(cipher: Cipher, credentials: Credentials) -> bytes:
    keys = {"private_key": credentials.private_key, "proxy_private_key": credentials.proxy_private_key}
    return cipher.encrypt(json.dumps(keys).encode())


def unseal(cipher: Cipher, sealed: bytes) -> Credentials:
    return Credentials(**json.loads(cipher.decrypt(sealed)))


async def keep(connection: AsyncConnection, fleet: Fleet, keys: Mapping[str, bytes]) -> None:
    """Keep the sealed keys of hosts, by RemoteHost.key; pins stay. Raises DstackError when another fleet has a host."""
    known = {row.host: row.fleet_id for row in await _rows(connection, keys)}
    for host, sealed in keys.items():
        owner = known.get(host)
        if owner is not None and owner != fleet.id:
            if (text := await taken_by(connection, host, owner, fleet.project_id)) is not None:
                raise DstackError(text)
            await connection.execute(delete(host_access).where(host_access.c.host == host))
        if owner == fleet.id:
            await connection.execute(update(host_access).where(host_access.c.host == host).values(sealed=sealed))
        else:
            await connection.execute(insert(host_access).values(fleet_id=fleet.id, host=host, sealed=sealed))


async def taken(
    connection: AsyncConnection, hosts: Collection[str], project_id: str, fleet_id: str | None
) -> list[str]:
    """A line for each of the hosts that belongs to another fleet of this server than `fleet_id` of `project_id`."""
    rows = [row for row in await _rows(connection, hosts) if row.fleet_id != fleet_id]
    lines = [await taken_by(connection, row.host, row.fleet_id, project_id) for row in rows]
    return [line for line in lines if line is not None]


async def taken_by(connection: AsyncConnection, host: str, fleet_id: str, project_id: str) -> str | None:
    """How the fleet has the host, for somebody of the project; None when it has let go of it."""
    fleet, instances = await _fleet(connection, fleet_id), await _living(connection, fleet_id)
    if fleet is None:
        return None
    # What others call their fleets is theirs to know.
    which = f"the fleet {fleet.name}" if fleet.project_id == project_id else "a fleet of another project"
    if _names(fleet, host):
        return f"The host {host} is already in {which} of this server"
    if any(one.remote is not None and one.remote.key == host for one in instances):
        return f"The host {host} is still being removed from {which}; try again when it is gone"
    return None


async def kept(connection: AsyncConnection, fleet_id: str) -> dict[str, bytes]:
    """The sealed keys of a fleet's hosts, by RemoteHost.key."""
    statement = select(host_access.c.host, host_access.c.sealed).where(host_access.c.fleet_id == fleet_id)
    return {host: sealed for host, sealed in await connection.execute(statement)}


async def _rows(connection: AsyncConnection, hosts: Collection[str]):
    statement = select(host_access.c.host, host_access.c.fleet_id).where(host_access.c.host.in_(sorted(hosts)))
    return (await connection.execute(statement)).all()


async def _fleet(connection: AsyncConnection, id_: str) -> Fleet | None:
    table = TABLES["fleet"]
    found = (await connection.execute(select(table).where(table.c.id == id_))).mappings().first()
    return None if found is None else decode(Fleet, found)


async def _living(connection: AsyncConnection, fleet_id: str) -> list[Instance]:
    table = TABLES["instance"]
    living = and_(table.c.fleet_id == fleet_id, table.c.status != InstanceStatus.TERMINATED)
    return [decode(Instance, m) for m in (await connection.execute(select(table).where(living))).mappings()]


def _names(fleet: Fleet, host: str) -> bool:
    """Whether the fleet stays and has the host in its list."""
    stays = fleet.status is FleetStatus.ACTIVE and fleet.delete_requested_at is None
    return stays and host in {one.key for one in fleet.spec.hosts}


async def _instance(connection: AsyncConnection, id_: str) -> Instance | None:
    table = TABLES["instance"]
    found = (await connection.execute(select(table).where(table.c.id == id_))).mappings().first()
    return None if found is None else decode(Instance, found)


def _entry(instance: Instance):
    key = instance.remote.key if instance.remote else ""
    return and_(host_access.c.fleet_id == instance.fleet_id, host_access.c.host == key)
