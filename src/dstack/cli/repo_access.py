"""Who may fetch a repository: everybody, or a token or key of this person; tried before a run depends on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dstack.api.client import Client
from dstack.cli.terminal import say
from dstack.errors import DstackError, UsageError
from dstack.git.access import Access, environment
from dstack.git.address import Address
from dstack.git.failures import GitFailed, explain

DEADLINE_S = 30.0


class _Candidate(NamedTuple):
    access: Access
    origin: str = ""  # for people, when it is none that they named


def accessible(client: Client, address: Address, token: str | None, identity: str | None) -> Access:
    """The first way to fetch that works. Raises DstackError saying how to get one.

    What the command line names is the only one tried. Else: without credentials, those in the address, those that
    `dstack init` registered, the token of gh, the keys that the person's ssh would use.
    """
    if token or identity:
        access = _given(address, token, identity)
        _try(access)
        return access
    denied: GitFailed | None = None
    for candidate in _candidates(client, address):
        try:
            _try(candidate.access)
        except GitFailed as error:
            if not error.denied:
                raise DstackError(f"repos: {error.message}", hint=error.hint) from None
            denied = denied or error
            continue
        if candidate.origin:
            say(f"repos: fetched with {candidate.origin}; the server keeps it sealed, for your runs alone")
        return candidate.access
    message = denied.message if denied else f"{address.url} cannot be fetched"
    hint = "is it private? `dstack init -P URL -t TOKEN`, or `--git-identity KEY`, registers your credentials"
    raise DstackError(f"repos: {message}", hint=hint)


def ls_remote(access: Access, *arguments: str) -> list[str]:
    """The lines of `git ls-remote`; options, then names. Raises GitFailed."""
    options = [one for one in arguments if one.startswith("-")]
    names = [one for one in arguments if not one.startswith("-")]
    with environment(access, known_hosts=_known_hosts()) as env:
        try:
            found = subprocess.run(
                ["git", "ls-remote", *options, "--", access.url, *names],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DEADLINE_S,
            )
        except FileNotFoundError:
            raise GitFailed("git is not installed on this machine", hint="install git, or use `files`") from None
        except subprocess.TimeoutExpired:
            raise GitFailed(f"{access.url} did not answer within {DEADLINE_S:g} seconds") from None
    if found.returncode:
        raise explain(found.stderr.decode(errors="replace"), access.url)
    return found.stdout.decode(errors="replace").splitlines()


def _try(access: Access) -> None:
    ls_remote(access, "HEAD")


def _given(address: Address, token: str | None, identity: str | None) -> Access:
    if token and identity:
        raise UsageError("--token and --git-identity exclude each other")
    if token:
        over_http = address.over_http
        if over_http is None:
            raise UsageError("a token is for an https:// address", hint="name the repo by it, or use --git-identity")
        return Access(over_http.url, token=token)
    over_ssh = address.over_ssh
    if over_ssh is None:
        raise UsageError("a key is for an ssh:// address", hint="name the repo by it, or use --token")
    path = Path(identity or "").expanduser()
    key = _key(path)
    if key is None:
        raise DstackError(f"--git-identity: {path} is not a private key that can be read", hint="without a passphrase")
    return Access(over_ssh.url, private_key=key)


def _candidates(client: Client, address: Address) -> Iterator[_Candidate]:
    over_http, over_ssh = address.over_http, address.over_ssh
    if over_http is not None:
        yield _Candidate(Access(over_http.url))
    elif address.scheme != "ssh":
        yield _Candidate(Access(address.url))
    if over_http is not None and (address.password or address.user) and address.scheme != "ssh":
        # `https://TOKEN@host` is a token, too
        secret, user = (address.password, address.user) if address.password else (address.user, "")
        yield _Candidate(Access(over_http.url, token=secret, user=user), "the token in the remote's address")
    registered = client.repos.creds(address.id)
    if registered and (registered.get("oauth_token") or registered.get("private_key")):
        kept, key = registered.get("oauth_token"), registered.get("private_key")
        yield _Candidate(Access(registered["clone_url"], token=kept, private_key=key))
    token = _gh_token(address.host)
    if over_http is not None and token:
        yield _Candidate(Access(over_http.url, token=token), f"the token that gh has for {address.host}")
    if over_ssh is not None:
        for path in _identities(over_ssh):
            key = _key(path)
            if key is not None:
                yield _Candidate(Access(over_ssh.url, private_key=key), f"the key {path}")


def _gh_token(host: str) -> str | None:
    """Of the configuration of GitHub's command line, where it keeps its token in the file."""
    folder = os.environ.get("GH_CONFIG_DIR")
    base = Path(folder) if folder else Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "gh"
    try:
        hosts: Any = yaml.safe_load((base / "hosts.yml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    entry = hosts.get(host) if isinstance(hosts, dict) else None
    token = entry.get("oauth_token") if isinstance(entry, dict) else None
    return token if isinstance(token, str) and token else None


def _identities(address: Address) -> list[Path]:
    """The keys that ssh would use for the host, by the person's own configuration."""
    port = ["-p", str(address.port)] if address.port else []
    command = ["ssh", "-G", *port, "--", f"{address.user}@{address.host}"]
    try:
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = found.stdout.decode(errors="replace").splitlines()
    named = [line.partition(" ")[2] for line in lines if line.startswith("identityfile ")]
    return [path for path in (Path(name).expanduser() for name in named) if path.is_file()]


def _key(path: Path) -> str | None:
    """A private key without a passphrase; None for anything else."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    if "PRIVATE KEY-----" not in text or "ENCRYPTED" in text:
        return None
    check = ["ssh-keygen", "-y", "-P", "", "-f", str(path)]
    try:
        found = subprocess.run(check, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return text
    return text if found.returncode == 0 else None


def _known_hosts() -> Path | None:
    """Beside what ssh keeps: never the person's own file."""
    folder = Path.home() / ".dstack" / "ssh"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder / "git_known_hosts"
