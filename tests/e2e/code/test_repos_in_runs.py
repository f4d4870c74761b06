"""Git repositories in runs: fetched by the server, unpacked before the job starts, with the person's changes on top."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.git_hosts import bare_repo, git, make_key, over_http, over_ssh
from support.product import Product, files_below

LOG = "git --no-pager log --no-color --format=%s"
SAY = f"cat said.txt; {LOG}; git status --porcelain; git status -b --porcelain | head -1"
TOKEN = "ghp_canary0815"


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `lab.git`."""
    return bare_repo(tmp_path_factory.mktemp("hosted")).parent


@pytest.fixture(scope="module")
def public(hosted: Path) -> Iterator[str]:
    with over_http(hosted) as url:
        yield f"{url}/lab.git"


@pytest.fixture(scope="module")
def private(hosted: Path) -> Iterator[str]:
    with over_http(hosted, TOKEN) as url:
        yield f"{url}/lab.git"


def checkout(dstack: Product, url: str, name: str) -> Path:
    folder = dstack.folder / name
    git(dstack.folder, "clone", "-q", url, name)
    return folder


def applied(dstack: Product, name: str, more: str, *commands: str):
    return dstack.cli("apply", "-y", "-f", dstack.task(name, *(commands or (SAY,)), more=more))


def test_a_public_repository_is_in_the_job_with_its_history_and_clean(dstack: Product, public: str):
    ended = applied(dstack, "cloned", f"repos: ['{public}']").ok()
    assert "second\nsecond\nfirst\n## main...origin/main\n" in ended.out


def test_a_branch_and_a_commit_are_what_the_job_has(dstack: Product, public: str, hosted: Path):
    aside = applied(dstack, "aside", f"repos: [{{url: '{public}', branch: side, path: lab}}]", "cd lab", SAY).ok()
    assert "aside\naside\nsecond\nfirst\n## side...origin/side\n" in aside.out
    first = git(hosted / "lab.git", "rev-parse", "main~1")
    early = applied(dstack, "early", f"repos: [{{url: '{public}', hash: '{first}'}}]").ok()
    assert "first\nfirst\n## HEAD (no branch)\n" in early.out


def test_the_jobs_variables_tell_its_repository(dstack: Product, public: str):
    command = "echo $DSTACK_REPO_ID; test $DSTACK_REPO_DIR = $PWD/lab && test -d $DSTACK_REPO_DIR/.git && echo there"
    ended = applied(dstack, "told", f"repos: ['{public}:./lab']", command).ok()
    assert "\nlab-" in ended.out and ended.out.endswith("there\n")


def test_local_changes_new_files_and_unpushed_commits_go_along(dstack: Product, public: str):
    here = checkout(dstack, public, "mine")
    git(here, "config", "user.name", "Eve")
    git(here, "config", "user.email", "eve@example.org")
    (here / "later.txt").write_text("committed\n")
    git(here, "add", "-A")
    git(here, "commit", "-q", "-m", "not pushed")
    (here / "said.txt").write_text("changed\n")
    (here / "new.bin").write_bytes(bytes(range(256)))
    (here / "tool.sh").write_text("#!/bin/sh\necho tool runs\n")
    (here / "tool.sh").chmod(0o755)
    (here / "secret.env").write_text("x\n")
    (here / "big.dat").write_bytes(os.urandom(3 * 1024 * 1024))
    (here / ".gitignore").write_text("secret.env\n")
    (here / ".dstackignore").write_text("*.dat\n")

    ended = applied(
        dstack, "dirty", "repos: [./mine]", SAY, "./tool.sh", "wc -c < new.bin", "ls", "git config user.name"
    )

    assert "changed\nsecond\nfirst\n" in ended.ok().out, ended.text
    for there in (" M said.txt", "?? new.bin", "?? later.txt", "tool runs", "256", "Eve"):
        assert there in ended.out
    assert "secret.env" not in ended.out and "big.dat" not in ended.out
    assert "1 commit that origin does not have" in ended.err
    assert "M said.txt" in git(here, "diff", "--name-status").replace("\t", " ")
    assert git(here, "diff", "--cached") == ""


def test_changes_beyond_the_limit_are_refused_with_the_largest_files(dstack: Product, public: str):
    here = checkout(dstack, public, "heavy")
    (here / "weights.bin").write_bytes(os.urandom(9 * 1024 * 1024))
    ended = applied(dstack, "heavy-run", "repos: [./heavy]")
    assert ended.code == 1
    assert "larger than 2MB" in ended.err and "weights.bin (9.0MB)" in ended.err and ".dstackignore" in ended.err
    (here / "weights.bin").write_bytes(os.urandom(3 * 1024 * 1024))
    assert "larger than 2MB" in applied(dstack, "heavy-run", "repos: [./heavy]").err


def test_states_of_a_checkout_that_no_run_can_have_are_named(dstack: Product, public: str):
    here = checkout(dstack, public, "loose")
    git(here, "switch", "-q", "--detach")
    ended = applied(dstack, "loose-run", "repos: [./loose]")
    assert ended.code == 1 and "Git repo in 'detached HEAD' state: ./loose" in ended.err
    git(here, "switch", "-q", "main")
    git(here, "remote", "remove", "origin")
    assert "has no remote" in applied(dstack, "loose-run", "repos: [./loose]").err
    shutil.rmtree(here / ".git")
    assert "Git repo not found: ./loose" in (missing := applied(dstack, "loose-run", "repos: [./loose]")).err
    assert "`files`" in missing.err
    assert "./nowhere is not a directory" in applied(dstack, "loose-run", "repos: [./nowhere]").err


def test_a_branch_that_the_remote_lacks_and_a_remote_that_is_away_are_told_before_the_run(dstack: Product, public: str):
    lacking = applied(dstack, "lacking", f"repos: [{{url: '{public}', branch: nope}}]")
    assert lacking.code == 1 and "has no branch nope" in lacking.err
    away = applied(dstack, "away", "repos: ['http://127.0.0.1:9/lab.git']")
    assert away.code == 1 and "127.0.0.1 cannot be reached: connection refused" in away.err
    wrong = applied(dstack, "wrong", f"repos: ['{public.replace('lab', 'nolab')}']")
    assert wrong.code == 1 and "does not exist, or is private" in wrong.err


def test_a_commit_that_the_remote_lacks_is_the_jobs_reason(dstack: Product, public: str):
    ended = applied(dstack, "unknown", f"repos: [{{url: '{public}', branch: main, hash: '{'a' * 40}'}}]")
    assert ended.code == 1
    assert f"Failed to set up the repo ({public} has no commit {'a' * 40})" in ended.text


def test_init_says_where_there_was_nothing_to_register(dstack: Product, public: str):
    told = dstack.cli("init", "-P", public).ok().out
    assert told == f"{public} needs no credentials: your runs can fetch it as it is\n"
    assert dstack.cli("init").ok().out.startswith("This directory is in no Git repo: nothing to register.")


def test_a_private_repository_needs_a_token_that_init_registers_and_nobody_sees(dstack: Product, private: str):
    closed = applied(dstack, "closed", f"repos: ['{private}']")
    assert closed.code == 1 and f"access to {private} was denied" in closed.err and "dstack init" in closed.err
    wrong = dstack.cli("init", "-P", private, "-t", "ghp_wrong")
    assert wrong.code == 1 and "was denied" in wrong.err
    assert dstack.cli("init", "-P", private, "-t", TOKEN).ok().out == "OK\n"

    opened = applied(dstack, "opened", f"repos: ['{private}']", SAY, "cat .git/config", "env").ok()

    assert "second\nsecond\nfirst\n" in opened.out
    assert TOKEN not in opened.text + dstack.server_log
    assert [path for path, data in files_below(dstack.folder) if TOKEN.encode() in data] == []


@pytest.mark.root
def test_a_repository_over_ssh_needs_the_key(dstack: Product, hosted: Path, tmp_path: Path):
    key, other = make_key(tmp_path / "key"), make_key(tmp_path / "other")
    with over_ssh(hosted, tmp_path / "sshd", key) as url:
        denied = dstack.cli("init", "-P", f"{url}/lab.git", "--git-identity", str(other))
        assert denied.code == 1 and "was denied" in denied.err
        dstack.cli("init", "-P", f"{url}/lab.git", "--git-identity", str(key)).ok()
        ended = applied(dstack, "keyed", f"repos: ['{url}/lab.git']").ok()
    assert "second\nsecond\nfirst\n" in ended.out
    assert "PRIVATE KEY" not in ended.text + dstack.server_log


def test_what_is_there_already_is_kept_or_the_reason_why_nothing_starts(dstack: Product, public: str):
    place = dstack.folder / "full"
    place.mkdir()
    (place / "kept.txt").write_text("kept\n")
    where = f"working_dir: {place}\nrepos: [{{url: '{public}'"
    refused = applied(dstack, "refused", where + "}]", "ls")
    assert refused.code == 1 and f"{place} is not empty" in refused.text
    assert applied(dstack, "skipped", where + ", if_exists: skip}]", "ls").ok().out.endswith("kept.txt\n")


def test_flags_name_the_repository_its_branch_or_none(dstack: Product, public: str):
    checkout(dstack, public, "flagged")
    file = dstack.task("flagged-run", SAY)
    ended = dstack.cli("apply", "-y", "-f", file, "--repo", "flagged", "--repo-branch", "side").ok()
    assert "## side...origin/side" in ended.out
    file = dstack.task("flagged-run", "ls | wc -l", more=f"repos: ['{public}']")
    assert dstack.cli("apply", "-y", "-f", file, "--no-repo").ok().out.endswith("0\n")
    both = dstack.cli("apply", "-y", "-f", file, "--no-repo", "-P", ".")
    assert both.code == 2 and "Either --repo or --no-repo can be specified" in both.err


def test_a_new_commit_is_a_change_of_an_active_run(dstack: Product, tmp_path: Path):
    bare = bare_repo(tmp_path)
    with over_http(tmp_path) as url:
        here = checkout(dstack, f"{url}/lab.git", "moving")
        file = dstack.task("moved", "sleep 600", more="repos: [./moving]")
        dstack.cli("apply", "-y", "-d", "-f", file).ok()
        same = dstack.cli("apply", "-y", "-d", "-f", file).ok()
        (here / "said.txt").write_text("third\n")
        git(here, "commit", "-q", "-a", "-m", "third")
        git(here, "push", "-q", str(bare), "main")
        git(here, "fetch", "-q")
        asked = dstack.cli("apply", "-d", "-f", file, stdin="n\n")
        dstack.cli("stop", "-y", "--abort", "moved").ok()
    assert "Detected no changes" in same.text
    assert "Repo state (branch, commit, or other)" in asked.text
    assert "local changes" not in asked.text
