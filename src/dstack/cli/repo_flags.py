"""The flags about the repository of a run, and what they make of the configuration's `repos`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dstack.errors import UsageError
from dstack.values.grammar import Invalid
from dstack.values.paths import parse_repo


@dataclass(frozen=True)
class RepoFlags:
    """What the command line says about the repository beside its address."""

    branch: str | None = None
    hash: str | None = None
    token: str | None = None
    identity: str | None = None


def repo_flags(values: Mapping[str, Any]) -> RepoFlags:
    """Raises UsageError for flags that exclude each other."""
    if values.get("repo") and values.get("no_repo"):
        raise UsageError("Either --repo or --no-repo can be specified")
    return RepoFlags(
        values.get("repo_branch"), values.get("repo_hash"), values.get("token"), values.get("git_identity")
    )


def repos_field(values: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The field `repos` as the flags want it; None when they say nothing of it. A local path is that of this folder."""
    if values.get("no_repo"):
        return []
    if not values.get("repo"):
        return None
    try:
        repo = parse_repo(values["repo"])
    except Invalid as error:
        raise UsageError(f"--repo: {error}") from None
    where = {"url": repo.url} if repo.local is None else {"local_path": os.path.abspath(os.path.expanduser(repo.local))}
    return [where | ({"path": repo.path} if repo.path else {})]
