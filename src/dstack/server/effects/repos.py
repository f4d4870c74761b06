"""The repository of a job: fetched with the credentials of whoever submitted it, and packed for the host."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from dstack.agentapi.wire import CodeArchive
from dstack.git.access import Access
from dstack.git.address import parse_address
from dstack.git.failures import GitFailed
from dstack.git.tree import Bounds, Wanted, fetch, pack
from dstack.model.job import Job, JobRepo
from dstack.model.wire.requests import RepoCreds
from dstack.server.store.blobs import BlobStore

# Answers the credentials that a user registered for a repo of a project: (project id, repo id, user id).
CredsOf = Callable[[str, str, str], Awaitable[RepoCreds | None]]
DEADLINE_S = 600.0
SAME_S = 60.0  # how long a packed tree is taken for up to date: for the nodes of a gang
TREE_KEPT_S = 3600.0
CACHE_KEPT_S = 30 * 86400.0
_BROKEN = (".lock", "lock ref", "corrupt", "bad object", "unable to read", "index-pack failed")


class Tree(NamedTuple):
    """A packed working tree, for the job's host."""

    archive: CodeArchive
    file: Path


class RepoTrees:
    """`folder` holds a bare repository for each remote and project, and the trees that were packed lately."""

    def __init__(self, folder: Path, blobs: BlobStore, creds_of: CredsOf, limit_bytes: int, *, loopback: bool):
        self._caches = folder / "remotes"
        self._trees = folder / "trees"
        self._known_hosts = folder / "known_hosts"
        self._blobs = blobs
        self._creds_of = creds_of
        self._limit_bytes = limit_bytes
        self._loopback = loopback
        self._locks: dict[str, asyncio.Lock] = {}
        self._packed: dict[str, tuple[str, float]] = {}  # what was wanted -> (hash, monotonic instant)

    async def of(self, job: Job) -> Tree | None:
        """The tree of the job's repository; None when it has none. Raises GitFailed, DstackError."""
        repo = job.spec.repo
        if repo is None:
            return None
        access = await self._access(job, repo)
        wanted = self._wanted(repo)
        # Whoever shares a project shares its cache, yet everybody asks the remote with credentials of their own.
        name = _key(job.project_id, wanted.url)
        whole = _key(name, job.user_id, repr(wanted), access.url, access.token or "", access.private_key or "")
        async with self._locks.setdefault(name, asyncio.Lock()):
            await asyncio.to_thread(self._prepare)
            sha256 = self._lately(whole)
            if sha256 is None:
                sha256 = await self._made(self._caches / f"{name}.git", wanted, access)
                self._packed[whole] = (sha256, time.monotonic())
        archive = CodeArchive(sha256, repo.path, if_exists=repo.if_exists)
        return Tree(archive, self._trees / sha256)

    async def _access(self, job: Job, repo: JobRepo) -> Access:
        creds = await self._creds_of(job.project_id, repo.id, job.user_id)
        url = creds.clone_url if creds else repo.url
        if not url:
            raise GitFailed(f"the repo {repo.id} is not known to the project", hint="apply again, or `dstack init`")
        address = parse_address(url)
        token = creds.oauth_token if creds else None
        key = creds.private_key if creds else None
        reached = (address.over_ssh if key else address.over_http if token else None) or address
        user = address.user if address.password else ""
        return Access(reached.url, token or address.password or None, key, user)

    def _wanted(self, repo: JobRepo) -> Wanted:
        diff = None
        if repo.code_hash:
            if not self._blobs.has(repo.code_hash):
                raise GitFailed("the local changes are not on the server any more", hint="apply again")
            diff = self._blobs.path(repo.code_hash)
        url = parse_address(repo.url).url if repo.url else repo.id
        return Wanted(url, repo.branch, repo.hash, repo.single_branch, diff, repo.user_name, repo.user_email)

    async def _made(self, cache: Path, wanted: Wanted, access: Access) -> str:
        if "://" not in wanted.url:  # clients of other releases name it in the credentials alone
            wanted = Wanted(**{**wanted.__dict__, "url": parse_address(access.url).url})
        bounds = Bounds(time.monotonic() + DEADLINE_S, self._limit_bytes)
        try:
            found = await fetch(cache, wanted, access, self._known_hosts, bounds, loopback=self._loopback)
        except GitFailed as e:
            if e.denied or not any(sign in e.message for sign in _BROKEN):
                raise
            await asyncio.to_thread(shutil.rmtree, cache, True)  # left half-written by a server that died
            found = await fetch(cache, wanted, access, self._known_hosts, bounds, loopback=self._loopback)
        output = self._trees / f".new-{uuid4().hex}"
        try:
            sha256 = await pack(cache, found, output, bounds)
            os.replace(output, self._trees / sha256)
        finally:
            output.unlink(missing_ok=True)
        return sha256

    def _lately(self, whole: str) -> str | None:
        sha256, at = self._packed.get(whole, ("", 0.0))
        if not sha256 or time.monotonic() - at > SAME_S or not (self._trees / sha256).exists():
            return None
        os.utime(self._trees / sha256)
        return sha256

    def _prepare(self) -> None:
        """Make the folders; drop what nobody used for long."""
        now = time.time()
        for folder, kept_s in ((self._caches, CACHE_KEPT_S), (self._trees, TREE_KEPT_S)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for entry in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # another job's, which is through
                    if entry.stat().st_mtime < now - kept_s:
                        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        for whole, (_, at) in list(self._packed.items()):
            if time.monotonic() - at > SAME_S:
                self._packed.pop(whole, None)  # those of other repositories are being looked at, too


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
