"""Public keys of people: which lines are keys, what their fingerprints are, and the file that sshd reads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Iterable, List, Optional

# Key types that OpenSSH has had; options before the type, certificates and anything else are refused.
KEY_TYPE = re.compile(
    r"(ssh-(ed25519|rsa|dss)|ecdsa-sha2-nistp\d+|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)\Z"
)
MAX_KEYS = 1000
ACCEPTED = re.compile(r"^Accepted publickey for \S+ from .* (SHA256:[A-Za-z0-9+/]+)\s*$", re.MULTILINE)


class BadKey(Exception):
    """The line is no public key."""


class PublicKey:
    """`line` is `type base64`, without a comment: nothing of a person's text reaches the files of sshd."""

    __slots__ = ("fingerprint", "line")

    def __init__(self, line: str, fingerprint: str):
        self.line = line
        self.fingerprint = fingerprint


def parse(line: str) -> PublicKey:
    """One line as in authorized_keys, without options. Raises BadKey."""
    parts = line.split()
    if len(parts) < 2 or not KEY_TYPE.match(parts[0]):
        raise BadKey("%r is no public key: it must begin with its type, as in `ssh-ed25519 AAAA...`" % line[:40])
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        raise BadKey("the key %r... is not base64" % parts[1][:20]) from None
    kind = parts[0].encode()
    if blob[: 4 + len(kind)] != len(kind).to_bytes(4, "big") + kind or len(blob) < 4 + len(kind) + 16:
        raise BadKey("the key %r... is damaged" % parts[1][:20])
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return PublicKey("%s %s" % (parts[0], parts[1]), "SHA256:" + digest)


def parse_all(lines: Iterable[str]) -> List[PublicKey]:
    """The keys among `lines`, each once; empty lines and comments are passed over. Raises BadKey."""
    found = {}
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            key = parse(line)
            found[key.line] = key
    if len(found) > MAX_KEYS:
        raise BadKey("%d keys are too many, %d is the most" % (len(found), MAX_KEYS))
    return list(found.values())


def usable(lines: Iterable[str]) -> List[PublicKey]:
    """Those lines that are keys: one bad key of one person must not keep the others out."""
    found = {}
    for line in lines:
        try:
            found.update({key.line: key for key in parse_all([line])})
        except BadKey:
            continue
    return list(found.values())


def accepted_fingerprint(log: str) -> Optional[str]:
    """Whose key sshd accepted, by the log of one connection; None while there is none."""
    match = ACCEPTED.search(log)
    return match.group(1) if match else None
