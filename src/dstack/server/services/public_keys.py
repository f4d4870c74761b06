"""SSH keys that people have themselves, beside the pair that the server made for them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, insert, select

from dstack.errors import DstackError, ResourceExists
from dstack.ids import new_id
from dstack.model.event import Event, EventTarget
from dstack.model.wire.requests import AddPublicKey
from dstack.server.auth.identity import User
from dstack.server.parts import Parts
from dstack.server.services.wire.values import stamp
from dstack.server.store.commit import record_events
from dstack.server.store.tables import public_key

MOST = 100
_LINE = re.compile(r"([a-z0-9@.-]{1,80}) +([A-Za-z0-9+/]+={0,2})(?: +([^\r\n]*))?")


class ParsedKey(NamedTuple):
    """`text` is `TYPE BASE64`, without the comment; `fingerprint` as `ssh-keygen -l` prints it."""

    type: str
    text: str
    comment: str
    fingerprint: str


async def list_keys(parts: Parts, caller: User) -> list[dict[str, Any]]:
    """The caller's own, the newest first."""
    statement = select(public_key).where(public_key.c.user_id == caller.id)
    async with parts.database.read() as connection:
        rows = await connection.execute(statement.order_by(public_key.c.added_at.desc(), public_key.c.id))
        return [_render(row._mapping) for row in rows]


async def add(parts: Parts, caller: User, request: AddPublicKey) -> dict[str, Any]:
    """Raises DstackError when it is no key or there are too many, ResourceExists when it is there already."""
    key, now = parse(request.key), parts.clock.now()
    name = (request.name or "").strip() or key.comment or key.fingerprint
    row = {"id": new_id(), "user_id": caller.id, "name": name[:200], "added_at": now}
    row |= {"type": key.type, "key": key.text, "fingerprint": key.fingerprint}
    own = public_key.c.user_id == caller.id
    async with parts.database.write() as connection:
        same = select(public_key.c.id).where(own, public_key.c.fingerprint == key.fingerprint)
        if (await connection.execute(same)).first():
            raise ResourceExists(f"The key {key.fingerprint} has been added already")
        count = (await connection.execute(select(func.count()).select_from(public_key).where(own))).scalar() or 0
        if count >= MOST:
            raise DstackError(f"You have {MOST} keys, which is as many as you may", hint="delete one")
        await connection.execute(insert(public_key).values(**row))
        target = EventTarget("user", caller.id, caller.username)
        await record_events(connection, [Event(f"Public key added: {key.fingerprint}", (target,), caller.id)], now)
    return _render(row)


async def delete_keys(parts: Parts, caller: User, ids: Sequence[UUID]) -> None:
    """Of the caller's own; others and unknown ones are passed over."""
    wanted = [public_key.c.user_id == caller.id, public_key.c.id.in_(sorted(str(one) for one in ids))]
    async with parts.database.write() as connection:
        found = [row.fingerprint for row in await connection.execute(select(public_key.c.fingerprint).where(*wanted))]
        await connection.execute(delete(public_key).where(*wanted))
        target = EventTarget("user", caller.id, caller.username)
        events = [Event(f"Public key deleted: {one}", (target,), caller.id) for one in sorted(found)]
        await record_events(connection, events, parts.clock.now())


def parse(text: str) -> ParsedKey:
    """One line of OpenSSH's format. Raises DstackError, which does not repeat it: it may be a private key."""
    if "PRIVATE KEY" in text:
        raise DstackError("That is a private key", hint="add the public one, the file with .pub at its end")
    match = _LINE.fullmatch(text.strip())
    if match is None:
        raise DstackError("That is not a public key in OpenSSH's format", hint="it looks like `ssh-ed25519 AAAA... me`")
    kind, body, comment = match[1], match[2], (match[3] or "").strip()
    _check(kind, body)
    digest = hashlib.sha256(base64.b64decode(body)).digest()
    fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    return ParsedKey(kind, f"{kind} {body}", comment, fingerprint)


def _check(kind: str, body: str) -> None:
    # Imported here: only who adds a key pays for it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        if kind.startswith("sk-"):  # of a hardware token: its inner key is not ours to read
            blob = base64.b64decode(body, validate=True)
            if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != kind.encode():
                raise ValueError
            return
        key = load_ssh_public_key(f"{kind} {body}".encode())
    except (ValueError, UnsupportedAlgorithm):
        raise DstackError(f"The {kind} key is damaged, or of a kind that is not supported") from None
    if isinstance(key, RSAPublicKey) and key.key_size < 2048:
        raise DstackError(f"The RSA key has {key.key_size} bits, expected at least 2048")


def _render(row: Any) -> dict[str, Any]:
    known = {name: row[name] for name in ("id", "name", "type", "fingerprint")}
    return known | {"added_at": stamp(row["added_at"])}
