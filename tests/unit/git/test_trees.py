"""Repositories fetched into a cache and packed as archives, from a real server on loopback."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstack.git.access import Access
from dstack.git.failures import GitFailed
from dstack.git.tree import Bounds, Wanted, fetch, pack
from support.git_hosts import bare_repo, git, over_http

LARGE = 1024**3
TOKEN = "tok-canary"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_repo(tmp_path_factory.mktemp("hosted"))


@pytest.fixture(scope="module")
def url(bare: Path) -> Iterator[str]:
    with over_http(bare.parent, TOKEN) as address:
        yield f"{address}/lab.git"


def bounds(limit_bytes: int = LARGE) -> Bounds:
    return Bounds(time.monotonic() + 120, limit_bytes)


async def fetched(tmp_path: Path, url: str, wanted: Wanted, token: str = TOKEN) -> Wanted:
    access, known = Access(url, token=token), tmp_path / "known"
    return await fetch(tmp_path / "cache.git", wanted, access, known, bounds(), loopback=True)


async def test_a_tree_holds_the_commit_and_nothing_of_the_credentials(tmp_path: Path, url: str, bare: Path):
    found = await fetched(tmp_path, url, Wanted(url))
    assert (found.branch, found.hash) == ("main", git(bare, "rev-parse", "main"))
    await pack(tmp_path / "cache.git", found, tmp_path / "tree.tar", bounds())
    with tarfile.open(tmp_path / "tree.tar") as tar:
        names = set(tar.getnames())
        assert {"./said.txt", "./.git/HEAD", "./.git/index"} <= names
        assert not any(name.startswith("./.git/hooks/") or name.startswith("./.git/logs") for name in names)
        assert all((member.uid, member.gid) == (0, 0) for member in tar)
        packed = b"".join(tar.extractfile(member).read() for member in tar if member.isfile())  # pyright: ignore[reportOptionalMemberAccess]
    assert b"[remote" in packed and TOKEN.encode() not in packed
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


async def test_who_may_not_read_the_remote_gets_nothing_from_the_cache(tmp_path: Path, url: str):
    await fetched(tmp_path, url, Wanted(url))
    with pytest.raises(GitFailed, match="was denied") as refused:
        await fetched(tmp_path, url, Wanted(url), token="other")
    assert refused.value.denied


async def test_a_tree_beyond_the_limit_is_refused_by_name(tmp_path: Path, url: str):
    found = await fetched(tmp_path, url, Wanted(url))
    with pytest.raises(GitFailed, match="larger than"):
        await pack(tmp_path / "cache.git", found, tmp_path / "tree.tar", bounds(1000))
    assert not (tmp_path / "tree.tar").exists()


async def test_changes_that_do_not_fit_the_commit_are_told(tmp_path: Path, url: str):
    found = await fetched(tmp_path, url, Wanted(url))
    diff = tmp_path / "diff"
    diff.write_text("--- a/said.txt\n+++ b/said.txt\n@@ -1 +1 @@\n-never there\n+new\n")
    with pytest.raises(GitFailed, match="the local changes cannot be applied"):
        await pack(tmp_path / "cache.git", Wanted(**{**found.__dict__, "diff": diff}), tmp_path / "t.tar", bounds())


@pytest.mark.parametrize("wanted", [{"branch": "--upload-pack=id"}, {"branch": "a..b"}, {"hash": "HEAD; id"}])
async def test_names_that_are_no_branch_or_commit_never_reach_git(tmp_path: Path, url: str, wanted: dict):
    with pytest.raises(GitFailed, match="is not the"):
        await fetched(tmp_path, url, Wanted(url, **wanted))
    assert not (tmp_path / "cache.git").exists()
