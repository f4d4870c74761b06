"""Encryption at rest: AES-256-GCM with the newest of the server's keys; the older ones still open what they sealed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from dstack.errors import DstackError

_NONCE = 12
KEY_BYTES = 32
_VERSION = b"\x01"
# Among given keys: here stand those of the key file.
KEY_FILE = b""


class Cipher:
    """`encrypt` output: one version byte, a 12-byte nonce, ciphertext and tag."""

    def __init__(self, newest: bytes, *older: bytes):
        # 30 ms of import that only a server pays.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys = [AESGCM(key) for key in (newest, *older)]

    def encrypt(self, plain: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + self._keys[0].encrypt(nonce, plain, None)

    def is_newest(self, sealed: bytes) -> bool:
        """Whether the newest key sealed it."""
        return self._opened(sealed, 1) is not None

    def decrypt(self, sealed: bytes) -> bytes:
        """Raises DstackError when none of the keys sealed it, or it was damaged."""
        plain = self._opened(sealed, len(self._keys))
        if plain is None:
            raise DstackError(
                "Stored secrets cannot be decrypted with this server's keys",
                hint="put back the encryption.key file that was made together with this database, or the key that is "
                "missing in DSTACK_SERVER_ENCRYPTION_KEYS or config.yml",
            )
        return plain

    def _opened(self, sealed: bytes, tries: int) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        if sealed[:1] != _VERSION:
            return None
        for key in self._keys[:tries]:
            try:
                return key.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], None)
            except InvalidTag:
                continue
        return None


def load_keys(path: Path, given: Sequence[bytes], *, may_create: bool) -> list[bytes]:
    """The 32-byte keys, the newest first: those of the settings, then those of the key file, one a line.

    `KEY_FILE` among the given ones says where those of the file stand instead. The file is made (mode 0600) when it
    may be and nothing else is given, or when it has to seal and another key opens what there is. Raises DstackError
    when there is no key but a database made with one, or when the file is damaged.
    """
    others = [key for key in given if key != KEY_FILE]
    if not path.exists():
        if others and given[0] != KEY_FILE:
            return others
        _make(path, may_create=may_create or bool(others))
    if KEY_FILE not in given:
        return [*others, *_read(path)]
    at = list(given).index(KEY_FILE)
    return [*others[:at], *_read(path), *others[at:]]


def _make(path: Path, *, may_create: bool) -> None:
    if not may_create:
        raise DstackError(
            f"The encryption key {path} is missing, but the database holds secrets sealed with it",
            hint="restore the key file from the backup of the same day as the database",
        )
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> list[bytes]:
    try:
        keys = [bytes.fromhex(line) for line in path.read_text().split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise DstackError(f"The encryption key {path} is damaged: expected 64 hexadecimal digits in each line")
    return keys
