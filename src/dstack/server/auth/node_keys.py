"""Keys by which the nodes of one replica reach each other: derived from one sealed secret of the database."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from dstack.model.job import Job
from dstack.server.auth.cipher import Cipher
from dstack.server.store.database import Database
from dstack.server.store.tables import meta

NAME = "node-keys"  # of the secret, in `meta`
_SEED_BYTES = 32


class KeyPair(NamedTuple):
    """`private` in OpenSSH's form, `public` as `type base64`."""

    private: str
    public: str


class ReplicaKeys(NamedTuple):
    """`job` is what the nodes show each other, `host` what their sshd show."""

    job: KeyPair
    host: KeyPair


class NodeKeys:
    """For all nodes of one attempt of one replica the same, whichever server is asked; for any other, other ones."""

    def __init__(self, database: Database, cipher: Cipher):
        self._database = database
        self._cipher = cipher
        self._seed = b""

    async def of(self, job: Job) -> ReplicaKeys:
        """Raises DstackError when the secret was sealed with a key that this server lacks."""
        self._seed = self._seed or await self._stored()
        replica = f"{job.run_id} {job.replica_num} {job.submission_num}"
        return ReplicaKeys(self._pair(f"job {replica}"), self._pair(f"host {replica}"))

    async def _stored(self) -> bytes:
        fresh = self._cipher.encrypt(secrets.token_bytes(_SEED_BYTES))
        insert = sqlite_insert if self._database.sqlite else pg_insert
        async with self._database.write() as connection:
            # Of several servers that come here at once, one makes it.
            await connection.execute(insert(meta).values(key=NAME, value=fresh).on_conflict_do_nothing())
            sealed = (await connection.execute(select(meta.c.value).where(meta.c.key == NAME))).scalar_one()
        return self._cipher.decrypt(bytes(sealed))

    def _pair(self, purpose: str) -> KeyPair:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"dstack node ssh " + purpose.encode()).derive(self._seed)
        key = Ed25519PrivateKey.from_private_bytes(derived)
        openssh = serialization.PrivateFormat.OpenSSH
        private = key.private_bytes(serialization.Encoding.PEM, openssh, serialization.NoEncryption())
        ssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        return KeyPair(private.decode(), key.public_key().public_bytes(*ssh).decode())
