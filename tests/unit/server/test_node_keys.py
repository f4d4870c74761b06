"""Keys of nodes: the same for one replica on every server, other ones for any other, and safe under newer keys."""

from __future__ import annotations

from pathlib import Path

import asyncssh

from dstack.server.auth.node_keys import NodeKeys
from dstack.server.auth.sealing import open_cipher
from dstack.server.store.database import Database
from dstack.server.store.migrate import upgrade
from support import builders

OLD, NEW = b"o" * 32, b"n" * 32
FIRST = builders.job("a", run_id="r1")


async def keys(folder: Path, *sealing: bytes) -> tuple[Database, NodeKeys]:
    url = f"sqlite:///{folder / 'db'}"
    await upgrade(url)
    database = Database(url)
    return database, NodeKeys(database, await open_cipher(database, folder / "encryption.key", sealing))


async def test_all_nodes_of_a_replica_share_a_key_that_no_other_replica_has(tmp_path: Path) -> None:
    database, node_keys = await keys(tmp_path, OLD)
    own = await node_keys.of(FIRST)
    assert (await node_keys.of(FIRST.replace(job_num=1))).job.public == own.job.public
    others = (FIRST.replace(run_id="r2"), FIRST.replace(replica_num=1), FIRST.replace(submission_num=1))
    publics = [(await node_keys.of(other)).job.public for other in others]
    assert len({own.job.public, own.host.public, *publics}) == 5
    await database.close()


async def test_the_private_half_is_one_that_ssh_takes_and_belongs_to_the_public_one(tmp_path: Path) -> None:
    database, node_keys = await keys(tmp_path, OLD)
    for pair in await node_keys.of(FIRST):
        assert asyncssh.import_private_key(pair.private).export_public_key().decode().strip() == pair.public
    await database.close()


async def test_another_server_and_a_newer_sealing_key_give_the_same_keys(tmp_path: Path) -> None:
    database, node_keys = await keys(tmp_path, OLD)
    before = (await node_keys.of(FIRST)).job.public
    await database.close()
    for sealing in ((NEW, OLD), (NEW,)):
        database, node_keys = await keys(tmp_path, *sealing)
        assert (await node_keys.of(FIRST)).job.public == before
        await database.close()
