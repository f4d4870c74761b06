"""Access tokens: random, shown once, and kept only as a hash."""

from __future__ import annotations

import hashlib
import secrets


def new_token() -> str:
    """160 random bits: nothing to guess, so a plain hash is enough to keep it by."""
    return secrets.token_hex(20)


def hash_token(token: str) -> str:
    """What the database keeps and is searched by; the token itself is never compared."""
    return hashlib.sha256(token.encode()).hexdigest()
