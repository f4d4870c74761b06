"""A working tree with its `.git` as one archive: fetched into a cache, checked out, changed as on the person's side."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from dstack.git.access import Access, isolated
from dstack.git.failures import GitFailed
from dstack.git.guarded import guarded
from dstack.git.running import git, size_of, too_large

_HASH = re.compile(r"[0-9a-f]{7,64}")
_BRANCH = re.compile(r"(?![-/.])(?!.*(\.\.|@\{|//|\.lock$|[/.]$))[^\x00-\x20\x7f~^:?*\[\\]+")
# Nothing of a repository runs here: no hooks, no filters, no monitors.
_SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never")
_SAFE += ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "advice.detachedHead=false")


@dataclass(frozen=True)
class Wanted:
    """What is to be in the working tree. Without branch and hash: the branch that the remote calls its own."""

    url: str  # without credentials; `origin` of the working tree
    branch: str | None = None
    hash: str | None = None
    single_branch: bool = True
    diff: Path | None = None  # what `git diff --binary` against the commit said
    user_name: str | None = None
    user_email: str | None = None


@dataclass(frozen=True)
class Bounds:
    deadline: float  # monotonic
    limit_bytes: int


async def fetch(
    cache: Path, wanted: Wanted, access: Access, known_hosts: Path, bounds: Bounds, *, loopback: bool
) -> Wanted:
    """Bring the bare repository `cache` up to date; answers what is wanted with branch and hash filled in.

    Asks the remote each time, with the caller's credentials: who may not read it gets nothing from the cache.
    `loopback`: repositories of this very machine may be fetched. Raises GitFailed.
    """
    _check(wanted)
    async with guarded(access, known_hosts, loopback=loopback) as (url, env):
        if not (cache / "HEAD").exists():
            await git("init", "-q", "--bare", "--template=", cache, env=env, deadline=bounds.deadline)
        at = (*_SAFE, "-C", cache)
        bounded = {"env": env, "deadline": bounds.deadline, "url": wanted.url}
        branch = wanted.branch
        if branch is None and wanted.hash is None:
            branch = _head(await git(*at, "ls-remote", "--symref", url, "HEAD", **bounded), wanted.url)
        refs = [f"+refs/heads/{branch}:refs/heads/{branch}"] if branch and wanted.single_branch else []
        refs = refs or ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        bounded |= {"folder": cache, "limit_bytes": bounds.limit_bytes}
        try:
            await git(*at, "fetch", "-q", "--no-tags", "--prune", url, *refs, **bounded)
        except GitFailed as e:
            raise (GitFailed(f"{wanted.url} has no branch {branch}") if "remote ref" in e.message else e) from None
        commit = wanted.hash or f"refs/heads/{branch}"
        found = await _resolve(cache, commit, bounds)
        if found is None and wanted.hash is not None and len(wanted.hash) >= 40:
            try:  # on no branch any more: many hosts give it out all the same
                await git(*at, "fetch", "-q", "--no-tags", url, wanted.hash, **bounded)
                found = await _resolve(cache, commit, bounds)
            except GitFailed:
                found = None
        if found is None:
            what = f"commit {wanted.hash}" if wanted.hash else f"branch {branch}"
            raise GitFailed(f"{wanted.url} has no {what}", hint="push it first" if wanted.hash else None)
    return Wanted(**{**wanted.__dict__, "branch": branch, "hash": found})


async def pack(cache: Path, wanted: Wanted, output: Path, bounds: Bounds) -> str:
    """Write the archive of the working tree to the file `output`; answers its SHA-256. Raises GitFailed."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".tree-") as name:
        tree = Path(name) / "tree"
        env = isolated(Path(name)) | {"GIT_ALLOW_PROTOCOL": "file"}
        await _check_out(cache, wanted, tree, env, bounds)
        if await asyncio.to_thread(size_of, tree) > bounds.limit_bytes:
            raise too_large(wanted.url, bounds.limit_bytes)
        return await asyncio.to_thread(_write_tar, tree, output)


async def _check_out(cache: Path, wanted: Wanted, tree: Path, env: dict[str, str], bounds: Bounds) -> None:
    bounded = {"env": env, "deadline": bounds.deadline, "url": wanted.url}
    here = (*_SAFE, "-C", tree)
    await git("init", "-q", "--template=", "-b", wanted.branch or "main", tree, **bounded)
    await git(*here, "remote", "add", "origin", wanted.url, **bounded)
    refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    if wanted.branch and wanted.single_branch:
        refs = [f"+refs/heads/{wanted.branch}:refs/remotes/origin/{wanted.branch}"]
        await git(*here, "config", "remote.origin.fetch", refs[0], **bounded)
    asks = ("-c", "uploadpack.allowAnySHA1InWant=true")
    await git(*here, "fetch", "-q", "--no-tags", cache, *refs, folder=tree, limit_bytes=bounds.limit_bytes, **bounded)
    commit = wanted.hash or ""
    if await _resolve(tree, commit, bounds, env) is None:
        upload = "git " + " ".join(asks) + " upload-pack"
        await git(*here, "fetch", "-q", "--no-tags", "--upload-pack", upload, cache, commit, **bounded)
    if wanted.branch:
        await git(*here, "checkout", "-q", "-f", "-B", wanted.branch, commit, **bounded)
        await git(*here, "branch", "-q", "--set-upstream-to", f"origin/{wanted.branch}", **bounded)
    else:
        await git(*here, "checkout", "-q", "-f", "--detach", commit, **bounded)
    for key, value in (("user.name", wanted.user_name), ("user.email", wanted.user_email)):
        if value:
            await git(*here, "config", key, value, **bounded)
    if wanted.diff is not None and wanted.diff.stat().st_size:
        try:
            await git(*here, "apply", "--binary", "--whitespace=nowarn", wanted.diff, **bounded)
        except GitFailed as e:
            raise GitFailed(f"the local changes cannot be applied to {commit[:12]}: {e.message}") from None
    shutil.rmtree(tree / ".git" / "logs", ignore_errors=True)  # tells of this machine's folders
    (tree / ".git" / "FETCH_HEAD").unlink(missing_ok=True)
    (tree / ".git" / "ORIG_HEAD").unlink(missing_ok=True)


async def _resolve(repo: Path, commit: str, bounds: Bounds, env: dict[str, str] | None = None) -> str | None:
    env = env or isolated(repo)
    try:
        arguments = ("rev-parse", "-q", "--verify", "--end-of-options", f"{commit}^{{commit}}")
        return (await git(*_SAFE, "-C", repo, *arguments, env=env, deadline=bounds.deadline)).strip()
    except GitFailed:
        if time.monotonic() > bounds.deadline:
            raise
        return None


def _head(listed: str, url: str) -> str:
    found = re.match(r"ref: refs/heads/(\S+)\tHEAD", listed)
    if found is None:
        raise GitFailed(f"{url} has no commit yet")
    return found[1]


def _check(wanted: Wanted) -> None:
    if wanted.branch is not None and not _BRANCH.fullmatch(wanted.branch):
        raise GitFailed(f"{wanted.branch[:100]!r} is not the name of a branch")
    if wanted.hash is not None and not _HASH.fullmatch(wanted.hash):
        raise GitFailed(f"{wanted.hash[:100]!r} is not the hash of a commit")


def _write_tar(tree: Path, output: Path) -> str:
    """Of the working tree and its `.git`; modes as git knows them, owner and times of nobody."""
    with open(output, "xb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(tree, arcname=".", filter=_plain)
        file.flush()
        os.fsync(file.fileno())
    with open(output, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    member.mtime = int(member.mtime)
    return member
