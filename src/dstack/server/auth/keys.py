"""SSH key pairs of users, made by the server and downloaded by the user's clients."""

from __future__ import annotations

from typing import NamedTuple


class KeyPair(NamedTuple):
    """OpenSSH texts: one `ssh-ed25519 ...` line, and an unencrypted PEM."""

    public: str
    private: str


def new_key_pair(comment: str) -> KeyPair:
    # Imported here: only who makes a key pays for it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return KeyPair(f"{public} {comment}", private)
