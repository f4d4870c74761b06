"""Identifiers: random ones for new intents, derived ones for everything that a decision creates.

A derived id is a hash of (parent id, kind, ordinal, attempt) in the form of a UUIDv4, so that a decision which is
made twice names the same row twice, and existing clients, which insist on version 4, accept it.
"""

from __future__ import annotations

import hashlib
import uuid


def new_id() -> str:
    """A fresh random UUIDv4; for routes, never for decisions."""
    return str(uuid.uuid4())


def derived_id(parent: str, kind: str, ordinal: int | str = 0, attempt: int = 0) -> str:
    """The id of the child that `parent` creates: same arguments, same id."""
    digest = hashlib.blake2b(f"{parent}\0{kind}\0{ordinal}\0{attempt}".encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))
