"""Private keys in memory: read, told apart, never written or shown."""

from __future__ import annotations

import asyncssh

from dstack.model.host import Hop
from dstack.ssh.errors import AccessDenied

NO_PASSPHRASE = (
    "Make a key for this: ssh-keygen -t ed25519 -N '' -f ~/.ssh/dstack_hosts, and put its public half on the hosts"
)


def private_key(text: str) -> asyncssh.SSHKey:
    """The key in `text` (OpenSSH or PEM). Raises AccessDenied, in words, where it cannot be used."""
    try:
        key = asyncssh.import_private_key(text)
    except asyncssh.KeyEncryptionError as e:
        raise AccessDenied("The private key is protected by a passphrase", hint=NO_PASSPHRASE) from e
    except (asyncssh.KeyImportError, ValueError) as e:
        raise AccessDenied(_unreadable(text, str(e)), hint=NO_PASSPHRASE) from e
    return key


def public_line(key: asyncssh.SSHKey) -> str:
    """The public half as `authorized_keys` and `known_hosts` write it, without a comment."""
    return " ".join(key.export_public_key().decode().split()[:2])


def fingerprint(line: str) -> str:
    """`SHA256:...` of a public key's line."""
    return asyncssh.import_public_key(line).get_fingerprint()


def refused(hop: Hop, key: asyncssh.SSHKey) -> AccessDenied:
    """The host does not take the key; the hint is the line that makes it."""
    return AccessDenied(
        f"{hop.hostname} does not let {hop.user} in with this key",
        hint=f"On the host: echo '{public_line(key)}' >> ~{hop.user}/.ssh/authorized_keys",
    )


def _unreadable(text: str, why: str) -> str:
    # asyncssh says "Unable to decrypt" or "Passphrase must be specified" in more than one class of error.
    if "encrypted" in why or "ENCRYPTED" in text:
        return "The private key is protected by a passphrase"
    if text.lstrip().startswith(("ssh-", "ecdsa-")):
        return "This is a public key; the private one is needed"
    return "The private key cannot be read: it is neither in OpenSSH's nor in PEM form"
