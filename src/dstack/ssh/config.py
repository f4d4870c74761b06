"""The generated part of a person's SSH configuration: a block for each run that they are attached to, and no longer.

It lies in a file of its own, which `~/.ssh/config` includes. Several processes may write at once, each under a lock.
Standard library only: the command line needs it and nothing else of this package.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HEAD = "# Written by `dstack attach`. Entries come and go with it: what is changed here is lost.\n"
MAX_SOCKET_PATH = 85  # of the 104 bytes that the smallest system allows; OpenSSH needs 17 while it makes one
_BEGIN = re.compile(r"# run (\S+) (\S+) attached by ([\d,]+)")
_INCLUDE = re.compile(rb"\s*include[\s=]+(.*)", re.IGNORECASE)
_SECTION = re.compile(rb"\s*(host|match)[\s=]", re.IGNORECASE)
_END = "# end\n"


@dataclass
class Block:
    """`text` are the entries of one run, `pids` the processes that are attached to it."""

    run: str
    id: str
    pids: set[int]
    text: str


class SshConfig:
    """The folder that holds the file, keys, sockets and what else belongs to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / "config"

    def put(self, run: str, id: str, text: str, pid: int) -> None:
        """Enter the run, or replace its entries; other processes that are attached to it stay so. Raises OSError."""
        with self._locked():
            blocks = self._read()
            there = next((block for block in blocks if block.run == run), None)
            pids = {pid} | (there.pids if there is not None and there.id == id else set())
            self._write([*(block for block in blocks if block.run != run), Block(run, id, pids, text)])

    def leave(self, run: str, pid: int) -> bool:
        """Whether nobody is attached to the run any more, and its entries are gone. Raises OSError."""
        with self._locked():
            blocks = self._read()
            for block in blocks:
                if block.run == run:
                    block.pids.discard(pid)
            left = [block for block in blocks if block.pids]
            self._write(left)
            return all(block.run != run for block in left)

    def runs(self) -> list[str]:
        """Those that somebody is attached to now."""
        return [block.run for block in self._read()]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_private(self.folder)
        with open(self.folder / "config.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> list[Block]:
        """Without the blocks of processes that died and could not take theirs away."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        found: list[Block] = []
        for line in text.splitlines(keepends=True):
            if match := _BEGIN.fullmatch(line.rstrip("\n")):
                pids = {int(pid) for pid in match[3].split(",") if pid}
                found.append(Block(match[1], match[2], {pid for pid in pids if _alive(pid)}, ""))
            elif found and line != _END and not line.startswith("#"):
                found[-1].text += line
        return [block for block in found if block.pids]

    def _write(self, blocks: Iterable[Block]) -> None:
        text = HEAD
        for block in blocks:
            pids = ",".join(str(pid) for pid in sorted(block.pids))
            text += f"\n# run {block.run} {block.id} attached by {pids}\n{block.text.strip()}\n{_END}"
        replace(self.path, text.encode())


def entry(names: Sequence[str], options: Iterable[tuple[str, object]]) -> str:
    """One `Host` section. Values are quoted where they must be."""
    lines = [f"Host {' '.join(names)}", *(f"    {key} {_value(value)}" for key, value in options)]
    return "\n".join(lines) + "\n"


def included(user_config: Path, ours: Path) -> bool:
    """Make `user_config` include our file, at its top and once; True when it had to be changed.

    All else in it stays as it is, byte for byte. Raises OSError naming the file that cannot be read or written.
    """
    line = f'Include "{ours}"'.encode()
    if user_config.exists() and not user_config.is_file():
        raise FileExistsError(17, "is no file", str(user_config))
    try:
        before = user_config.read_bytes()
    except FileNotFoundError:
        before = b""
    if _includes(before, ours):
        return False
    if not user_config.parent.exists():
        user_config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = user_config.resolve()  # a link stays one
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(13, "Permission denied", str(user_config))
    replace(target, line + b"\n\n" + before if before else line + b"\n", mode)
    return True


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """The file is the old one or the new one, never half of it. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_private(folder: Path) -> None:
    """The folder, for its owner only. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def control_path(folder: Path, run: str) -> Path:
    """Where the shared connection of a run has its socket; elsewhere when the folder's path is too long for one."""
    path = folder / f"{run}.control.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    short = Path("/tmp") / f"dstack-{os.getuid()}"
    make_private(short)
    if short.is_symlink() or short.stat().st_uid != os.getuid():
        raise PermissionError(13, "belongs to somebody else", str(short))
    os.chmod(short, 0o700)
    return short / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"


def _includes(content: bytes, ours: Path) -> bool:
    """Whether the file includes ours for all hosts: a line within a section counts for its hosts only."""
    for line in content.splitlines():
        if _SECTION.match(line):
            return False
        if match := _INCLUDE.fullmatch(line):
            for word in re.findall(rb'"[^"]*"|\S+', match[1]):
                path = Path(os.path.expanduser(os.fsdecode(word.strip(b'"'))))
                if (path if path.is_absolute() else Path.home() / ".ssh" / path) == ours:
                    return True
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _value(value: object) -> str:
    if not isinstance(value, Path):
        return str(value)
    text = str(value).replace("%", "%%")
    return f'"{text}"' if " " in text else text
