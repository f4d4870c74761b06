"""The environment of a git that reaches a repository of others with credentials that nobody else sees."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_USERS = {"gitlab": "oauth2", "bitbucket": "x-token-auth"}  # whom a host wants to see beside a token
CONNECT_S = 15


@dataclass(frozen=True)
class Access:
    """Where to fetch from, and with what: a token or password for HTTP, a private key for SSH, or nothing."""

    url: str
    token: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    user: str = ""  # beside the token, when the address named one


@contextlib.contextmanager
def environment(
    access: Access, known_hosts: Path | None = None, base: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """The environment in which git reaches `access.url` with these credentials and no others, and asks nobody.

    Secrets lie in files of mode 0600 that are gone afterwards; they are in no argument and no variable. Host keys of
    SSH are remembered in `known_hosts` at first sight, and held to.
    """
    with tempfile.TemporaryDirectory(prefix="dstack-git-") as folder:
        place = Path(folder)
        secret, user = place / "secret", place / "user"
        _write(secret, access.token or "")
        _write(user, access.user or _user_for(access.url))
        ask = place / "ask"
        _write(ask, f'#!/bin/sh\ncase "$1" in Username*) cat "{user}";; *) cat "{secret}";; esac\n', 0o700)
        env = isolated(place, base)
        env |= {"GIT_ASKPASS": str(ask), "SSH_ASKPASS": str(ask), "GIT_ALLOW_PROTOCOL": "https:http:ssh:git"}
        env["GIT_SSH_COMMAND"] = _ssh(place, access.private_key, known_hosts or place / "known_hosts")
        env["GIT_SSH_VARIANT"] = "ssh"
        yield env


def isolated(home: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which git knows nothing of this machine's configuration, and speaks English."""
    base = os.environ if base is None else base
    kept = {k: v for k, v in base.items() if k in _KEPT or k.lower().endswith("_proxy")}
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",
    }


_KEPT = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_EXEC_PATH", "LD_LIBRARY_PATH")


def _user_for(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return next((user for part, user in _USERS.items() if part in host), "x-access-token")


def _ssh(place: Path, key: str | None, known_hosts: Path) -> str:
    options = ["BatchMode=yes", "StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={known_hosts}"]
    options += ["GlobalKnownHostsFile=/dev/null", f"ConnectTimeout={CONNECT_S}", "IdentityAgent=none", "LogLevel=ERROR"]
    options += ["IdentitiesOnly=yes", "ClearAllForwardings=yes", "ForwardAgent=no", "ServerAliveInterval=15"]
    identity = place / "key"
    if key is not None:
        _write(identity, key if key.endswith("\n") else key + "\n")
    return " ".join(["ssh", "-F", os.devnull, "-i", f"'{identity}'", *(f"-o '{option}'" for option in options)])


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
