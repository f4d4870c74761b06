"""Encryption at rest: AES-256-GCM with the key of a file that only the server can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dstack.errors import DstackError

_NONCE = 12
_VERSION = b"\x01"


class Cipher:
    """`encrypt` output: one version byte, a 12-byte nonce, ciphertext and tag."""

    def __init__(self, key: bytes):
        # 30 ms of import that only a server pays.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(key)

    def encrypt(self, plain: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + self._aead.encrypt(nonce, plain, None)

    def decrypt(self, sealed: bytes) -> bytes:
        """Raises DstackError when another key sealed it, or it was damaged."""
        from cryptography.exceptions import InvalidTag

        try:
            if sealed[:1] != _VERSION:
                raise InvalidTag
            return self._aead.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], None)
        except InvalidTag:
            raise DstackError(
                "Stored secrets cannot be decrypted with this server's key",
                hint="put back the encryption.key file that was made together with this database",
            ) from None


def load_key(path: Path, *, may_create: bool) -> bytes:
    """The 32-byte key of the key file, made (mode 0600) when it may be.

    Raises DstackError when the file is missing but a database made with it exists, or when it is damaged.
    """
    if not path.exists():
        if not may_create:
            raise DstackError(
                f"The encryption key {path} is missing, but the database holds secrets sealed with it",
                hint="restore the key file from the backup of the same day as the database",
            )
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise DstackError(f"The encryption key {path} is damaged: expected 64 hexadecimal digits")
    return key
