"""What git's error output means to people."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from dstack.errors import DstackError


class GitFailed(DstackError):
    """git could not do it; `denied` when other credentials might help."""

    def __init__(self, message: str, *, denied: bool = False, hint: str | None = None):
        super().__init__(message, hint=hint)
        self.denied = denied


class _Meaning(NamedTuple):
    signs: tuple[str, ...]  # in lower case
    message: str
    denied: bool = False


_MEANINGS = (
    _Meaning(
        ("host key verification failed", "remote host identification has changed"),
        "the SSH host key of {host} is not the one that it had before",
    ),
    _Meaning(
        ("could not resolve host", "name or service not known", "temporary failure in name resolution"),
        "{host} cannot be reached: there is no such host",
    ),
    _Meaning(("connection refused", "couldn't connect"), "{host} cannot be reached: connection refused"),
    _Meaning(("timed out", "timeout"), "{host} cannot be reached: no answer in time"),
    _Meaning(("no route to host", "network is unreachable"), "{host} cannot be reached: no route to it"),
    _Meaning(("connection reset", "failed to connect", "unable to connect"), "{host} cannot be reached"),
    _Meaning(
        ("error in libcrypto", "invalid format", "load key", "incorrect passphrase"),
        "the private key for {host} cannot be used: it is none, or has a passphrase",
        True,
    ),
    _Meaning(
        ("authentication failed", "could not read username", "could not read password", "permission denied"),
        "access to {url} was denied",
        True,
    ),
    _Meaning(("error: 401", "error: 403", "terminal prompts disabled"), "access to {url} was denied", True),
    _Meaning(
        ("repository not found", "does not appear to be a git repository", "error: 404", "repository not exported"),
        "{url} does not exist, or is private",
        True,
    ),
    _Meaning(("not found: did you run", "does not exist", "not found"), "{url} does not exist, or is private", True),
    _Meaning(
        ("ssl certificate problem", "certificate verification failed"), "the certificate of {host} is not trusted"
    ),
)


def explain(error_output: str, url: str) -> GitFailed:
    """The failure in words, naming the address without credentials."""
    shown = _without_credentials(url)
    host = urlsplit(shown).hostname or shown
    text = error_output.lower()
    for meaning in _MEANINGS:
        if any(sign in text for sign in meaning.signs):
            return GitFailed(meaning.message.format(url=shown, host=host), denied=meaning.denied)
    lines = error_output.replace("\r", "\n").splitlines()
    told = [line.partition(":")[2].strip() for line in lines if line.startswith(("fatal:", "error:"))]
    return GitFailed(f"{shown}: {_without_credentials((told or lines or ['git failed'])[0])[:300]}")


def _without_credentials(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
