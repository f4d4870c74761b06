"""The Git repository that a run brings along: what it is, the person's changes to it, and who may fetch it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dstack.api.client import Client
from dstack.cli.repo_access import accessible, ls_remote
from dstack.cli.repo_checkout import Checkout, look
from dstack.cli.repo_flags import RepoFlags
from dstack.cli.terminal import say
from dstack.errors import ConfigurationError, DstackError, UsageError
from dstack.git.access import Access
from dstack.git.address import Address, BadAddress, parse_address
from dstack.model.configurations.parts import RepoSpec
from dstack.values.grammar import Invalid
from dstack.values.paths import parse_repo

Json = dict[str, Any]


@dataclass(frozen=True)
class Use:
    """The fields of a run's specification that tell its repository."""

    id: str = "none"
    data: Json | None = None
    code_hash: str | None = None
    folder: str | None = None

    def fields(self) -> Json:
        data = self.data or {"repo_type": "virtual"}
        return {"repo_id": self.id, "repo_data": data, "repo_code_hash": self.code_hash, "repo_dir": self.folder}


def bring(client: Client, written: RepoSpec | None, folder: Path, flags: RepoFlags, limit_bytes: int) -> Use:
    """Find the repository, see that it can be fetched, register that, upload the person's changes.

    `folder` is what a local path is relative to. Raises DstackError for everything that a person can mend.
    """
    if written is None:
        return Use()
    branch, commit = flags.branch or written.branch, flags.hash or written.hash
    checkout: Checkout | None = None
    if written.local_path is not None:
        checkout = look(folder / Path(written.local_path).expanduser(), written.local_path, bare=bool(branch or commit))
        address = checkout.address
    else:
        address = _address(written.url or "")
    access = accessible(client, address, flags.token, flags.identity)
    changes = b""
    if checkout is not None and not (branch or commit):
        changes = checkout.changes(limit_bytes)
        branch, commit = checkout.branch, checkout.base
        _told(checkout, changes)
    elif commit is None:
        branch, commit = _tip(access, address, branch)
    register(client, address, access)
    code_hash = None
    if changes:
        code_hash = hashlib.sha256(changes).hexdigest()
        client.repos.upload_code(address.id, changes, code_hash)
    data = {"repo_type": "remote", "repo_name": address.name, "repo_branch": branch, "repo_hash": commit}
    if checkout is not None:
        data |= {"repo_config_name": checkout.user_name, "repo_config_email": checkout.user_email}
    return Use(address.id, data | {"x_repo_url": _shown(address).url}, code_hash, written.path)


def register(client: Client, address: Address, access: Access) -> None:
    """Tell the project of the repository, and how this person fetches it."""
    creds = {"clone_url": access.url, "oauth_token": access.token, "private_key": access.private_key}
    client.repos.init_remote(address.id, address.name, creds)


def address_of(text: str, folder: Path) -> Address:
    """Of a repository that was named by its address, or by a directory relative to `folder`."""
    try:
        repo = parse_repo(text)
    except Invalid as error:
        raise UsageError(f"--repo: {error}") from None
    if repo.url is not None:
        return _address(repo.url)
    return look(folder / Path(repo.local or ".").expanduser(), repo.local or ".", bare=True).address


def _address(url: str) -> Address:
    try:
        return parse_address(url)
    except BadAddress as error:
        raise ConfigurationError(f"repos: {error.message}", hint=error.hint) from None


def _shown(address: Address) -> Address:
    """Without what is a secret in an HTTP address."""
    return (
        address if address.scheme == "ssh" else Address(address.scheme, address.host, address.path, port=address.port)
    )


def _tip(access: Access, address: Address, branch: str | None) -> tuple[str, str]:
    """(the branch or the one that the remote calls its own, its newest commit)."""
    shown = _shown(address).url
    listed = ls_remote(access, "--symref", "HEAD", *([f"refs/heads/{branch}"] if branch else []))
    commits = {name: value for value, _, name in (line.partition("\t") for line in listed)}
    if branch is None:
        head = next((line for line in listed if line.startswith("ref: ")), None)
        if head is None:
            raise DstackError(f"repos: {shown} has no commit yet")
        return head.removeprefix("ref: refs/heads/").partition("\t")[0], commits["HEAD"]
    if f"refs/heads/{branch}" not in commits:
        raise DstackError(f"repos: {shown} has no branch {branch}")
    return branch, commits[f"refs/heads/{branch}"]


def _told(checkout: Checkout, changes: bytes) -> None:
    if checkout.unpushed:
        commits = "commit" if checkout.unpushed == 1 else "commits"
        say(f"repos: {checkout.unpushed} {commits} that {checkout.remote} does not have go along as local changes")
    if changes:
        say(f"repos: {checkout.shown} at {checkout.base[:8]} with local changes ({len(changes) / 1024:.1f}KB)")
