"""A person's own checkout of a Git repository: its remote, its branch, and how it differs from what the remote has."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dstack.errors import ConfigurationError, DstackError
from dstack.git.address import Address, BadAddress, parse_address

TO_FILES = "`files` uploads a folder that is no Git repository"
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Checkout:
    """`base` is the newest commit of HEAD that the remote has; `unpushed` counts those that came after it."""

    folder: Path
    shown: str
    address: Address
    remote: str
    branch: str
    base: str
    unpushed: int = 0
    user_name: str | None = None
    user_email: str | None = None

    def changes(self, limit_bytes: int) -> bytes:
        """All that differs from `base`, files included that git does not know and does not ignore, as git's diff.

        Raises DstackError when it is larger than `limit_bytes`.
        """
        unknown = self._unknown(limit_bytes)
        with tempfile.TemporaryDirectory(prefix="dstack-") as scratch:
            # An index and an object store of its own: the person's repository is not written to.
            objects = Path(scratch) / "objects"
            objects.mkdir()
            store = _git(self.folder, "rev-parse", "--path-format=absolute", "--git-path", "objects")
            env = {"GIT_INDEX_FILE": str(Path(scratch) / "index"), "GIT_OBJECT_DIRECTORY": str(objects)}
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = store
            _git(self.folder, "read-tree", "HEAD", env=env)
            _git(self.folder, "add", "-u", env=env)
            if unknown:
                listed = b"\0".join(os.fsencode(name) for name in unknown)
                _git(self.folder, "add", "--pathspec-from-file=-", "--pathspec-file-nul", env=env, stdin=listed)
            options = ("--cached", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color")
            settled = ("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "diff.submodule=short")
            found = _git_bytes(self.folder, *settled, "diff", *options, "--no-renames", self.base, env=env)
        if len(found) > limit_bytes:
            raise _too_large(self.shown, f"{len(found) / 1048576:.1f}MB", limit_bytes)
        return found

    def _unknown(self, limit_bytes: int) -> list[str]:
        """Files that git does not track and neither it nor .dstackignore ignores."""
        both = ("--exclude-standard", "--exclude-per-directory=.dstackignore")  # git takes one of them at a time
        first, second = (_git(self.folder, "ls-files", "--others", one, "-z").split("\0") for one in both)
        names = sorted({name for name in first if name} & set(second))
        # A folder with a repository of its own: git lists it with a slash, and would record a submodule.
        names = [name for name in names if not name.endswith("/")]
        sizes = {name: os.lstat(self.folder / name).st_size for name in names if os.path.lexists(self.folder / name)}
        # The diff holds them compressed: what does not fit fourfold does not fit.
        if sum(sizes.values()) > 4 * limit_bytes:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
            listed = ", ".join(f"{name} ({sizes[name] / 1048576:.1f}MB)" for name in largest)
            raise _too_large(self.shown, f"new files: {listed}", limit_bytes)
        return list(sizes)


def look(path: Path, shown: str, *, bare: bool = False) -> Checkout:
    """The checkout that `path` lies in; `bare` asks for its remote only, whatever state it is in.

    Raises ConfigurationError when there is none, or none that others could have.
    """
    if not path.is_dir():
        raise ConfigurationError(f"repos: {shown} is not a directory", hint=f"looked at {path}")
    try:
        folder = Path(_git(path, "rev-parse", "--show-toplevel"))
    except DstackError as error:
        if "not a git repository" not in error.message and "must be run in a work tree" not in error.message:
            raise
        raise ConfigurationError(f"Git repo not found: {shown}", hint=TO_FILES) from None
    branch = _ask(folder, "symbolic-ref", "-q", "--short", "HEAD")
    if branch is None and not bare:
        hint = "check out a branch: `git switch BRANCH`, or `git switch -c BRANCH` for a new one"
        raise ConfigurationError(f"Git repo in 'detached HEAD' state: {shown}", hint=hint)
    remote = _remote(folder, branch, shown)
    address = _address(folder, remote, shown)
    if bare:
        return Checkout(folder, shown, address, remote, branch or "", "")
    assert branch is not None
    if _ask(folder, "rev-parse", "-q", "--verify", "HEAD") is None:
        raise ConfigurationError(f"Git repo has no commit yet: {shown}", hint="`git commit`, then `git push`")
    tracked, base, unpushed = _base(folder, remote, branch, shown)
    who = (_ask(folder, "config", "user.name"), _ask(folder, "config", "user.email"))
    return Checkout(folder, shown, address, remote, tracked, base, unpushed, *who)


def in_checkout(path: Path) -> bool:
    """Whether the directory lies in a checkout, and git is here to tell."""
    try:
        return _ask(path, "rev-parse", "--show-toplevel") is not None
    except DstackError:
        return False


def _remote(folder: Path, branch: str | None, shown: str) -> str:
    names = _git(folder, "remote").split()
    if not names:
        hint = f"runs fetch it from its remote: `git remote add origin URL`; {TO_FILES}, too"
        raise ConfigurationError(f"Git repo has no remote: {shown}", hint=hint)
    upstream = _ask(folder, "config", f"branch.{branch}.remote") if branch else None
    return upstream if upstream in names else "origin" if "origin" in names else names[0]


def _address(folder: Path, remote: str, shown: str) -> Address:
    try:
        return parse_address(_git(folder, "remote", "get-url", remote))
    except BadAddress as error:
        raise ConfigurationError(
            f"repos: the remote {remote} of {shown} cannot be fetched from elsewhere: {error.message}", hint=error.hint
        ) from None


def _base(folder: Path, remote: str, branch: str, shown: str) -> tuple[str, str, int]:
    """(a branch of the remote, the newest commit of HEAD that it has, how many commits are newer)."""
    own = (_ask(folder, "config", f"branch.{branch}.merge") or "").removeprefix("refs/heads/") or branch
    head = (_ask(folder, "symbolic-ref", "-q", "--short", f"refs/remotes/{remote}/HEAD") or "").partition("/")[2]
    for name in dict.fromkeys([own, branch, head, "main", "master"]):
        tracking = f"refs/remotes/{remote}/{name}"
        if name and _ask(folder, "rev-parse", "-q", "--verify", tracking) is not None:
            base = _ask(folder, "merge-base", "HEAD", tracking)
            if base is not None:
                return name, base, int(_git(folder, "rev-list", "--count", f"{base}..HEAD"))
    raise ConfigurationError(
        f"repos: nothing of the branch {branch} of {shown} is on {remote} yet", hint=f"`git push -u {remote} {branch}`"
    )


def _too_large(shown: str, what: str, limit_bytes: int) -> DstackError:
    return DstackError(
        f"repos: the local changes of {shown} are larger than {limit_bytes / 1048576:g}MB, the limit ({what})",
        hint="commit and push them, list what the run does not need in .gitignore or .dstackignore, "
        "or raise DSTACK_SERVER_CODE_UPLOAD_LIMIT here and on the server",
    )


def _ask(folder: Path, *arguments: str) -> str | None:
    """The answer; None when git says no."""
    found = _run(folder, arguments, None, None)
    return found.stdout.decode(errors="replace").strip() if found.returncode == 0 else None


def _git(folder: Path, *arguments: str, env: dict[str, str] | None = None, stdin: bytes | None = None) -> str:
    out = os.fsdecode(_git_bytes(folder, *arguments, env=env, stdin=stdin))
    return out if "-z" in arguments else out.strip()


def _git_bytes(folder: Path, *arguments: str, env: dict[str, str] | None = None, stdin: bytes | None = None) -> bytes:
    found = _run(folder, arguments, env, stdin)
    if found.returncode:
        said = found.stderr.decode(errors="replace").strip()
        raise DstackError(f"git {arguments[0]} failed in {folder}: {said or found.returncode}")
    return found.stdout


def _run(
    folder: Path, arguments: tuple[str, ...], env: dict[str, str] | None, stdin: bytes | None
) -> subprocess.CompletedProcess[bytes]:
    # The variables of a hook or of an alias that started us would point elsewhere.
    inherited = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    whole = inherited | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"} | (env or {})
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=whole,
            input=stdin or b"",
            capture_output=True,
            timeout=DEADLINE_S,
        )
    except FileNotFoundError:
        raise DstackError("repos: git is not installed on this machine", hint="install git, or use `files`") from None
    except subprocess.TimeoutExpired:
        raise DstackError(f"git {arguments[0]} did not end within {DEADLINE_S:g} seconds in {folder}") from None
