"""Local files of a configuration as archives: the same files always give the same bytes, hence the same hash."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dstack.cli.ignore import Ignored
from dstack.errors import ConfigurationError

DEFAULT_LIMIT_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class Archive:
    """A tar that is unpacked in the folder `path` of the container (relative: to the working directory)."""

    data: bytes
    path: str
    sha256: str


def pack(local: str, target: str, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Archive:
    """The archive of a file or directory; `local` is relative to `folder`, `target` its path in the container."""
    source = folder / os.path.expanduser(local)
    if not source.exists():
        raise ConfigurationError(
            f"files: {local} does not exist", hint=f"paths are relative to the configuration file, in {folder}"
        )
    buffer = io.BytesIO()
    contents = _Contents(local, limit_bytes)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if source.is_dir():
            path = target
            for file, name in _contents(source, folder):
                _add(tar, file, name, contents)
        else:
            path, name = posixpath.split(target)
            _add(tar, source, name or source.name, contents)
    data = buffer.getvalue()
    return Archive(data, path or ".", hashlib.sha256(data).hexdigest())


def _contents(source: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """What goes along of the directory `source`; ignore files between `folder` and it count, too."""
    ignored, base, here = Ignored(), "", source
    parts = Path(os.path.relpath(source, folder)).parts
    if parts and ".." not in parts:
        here = folder
        for part in parts:
            ignored = ignored.within(here, base)
            here, base = here / part, f"{base}/{part}".lstrip("/")
    for file, name in _walk(source, base, ignored):
        yield file, name[len(base) + 1 :] if base else name


def _walk(folder: Path, base: str, above: Ignored) -> Iterator[tuple[Path, str]]:
    """Everything that goes along, in a fixed order; links stay links."""
    ignored = above.within(folder, base)
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{base}/{entry.name}" if base else entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored.matches(name, is_folder):
            continue
        if is_folder:
            yield Path(entry.path), name
            yield from _walk(Path(entry.path), name, ignored)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield Path(entry.path), name


class _Contents:
    """How large the files of one archive are; of which entry of `files`, and how large they may be together."""

    def __init__(self, local: str, limit_bytes: int):
        self.local = local
        self._limit_bytes = limit_bytes
        self._sizes: dict[str, int] = {}
        self._total = 0

    def add(self, name: str, size: int) -> None:
        """Raises ConfigurationError when it is too much."""
        self._sizes[name] = size
        self._total += size
        if self._total > self._limit_bytes:
            raise _too_large(self.local, self._sizes, self._limit_bytes)


def _add(tar: tarfile.TarFile, file: Path, name: str, contents: _Contents) -> None:
    if not name.isprintable():
        raise ConfigurationError(f"files: {contents.local}: the name {name!r} cannot be sent")
    info = tar.gettarinfo(str(file), arcname=name)
    # Only what the run can see makes the hash: not when and by whom it was copied to this machine.
    info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    if info.islnk():
        info.type, info.linkname, info.size = tarfile.REGTYPE, "", file.stat().st_size
    contents.add(name, info.size)
    if not info.isreg():
        tar.addfile(info)
        return
    with open(file, "rb") as content:
        tar.addfile(info, content)


def _too_large(local: str, sizes: dict[str, int], limit_bytes: int) -> ConfigurationError:
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    listed = ", ".join(f"{name} ({sizes[name] / 1048576:.1f}MB)" for name in largest)
    return ConfigurationError(
        f"files: {local} is larger than {limit_bytes / 1048576:g}MB, the limit for uploaded files",
        hint=f"largest so far: {listed}; list what the run does not need in .dstackignore, "
        "or raise DSTACK_SERVER_CODE_UPLOAD_LIMIT here and on the server",
    )
