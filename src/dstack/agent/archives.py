"""Code archives: which members may be unpacked, and where.

An archive comes from whoever may submit a run. It must not write outside of the folder that it was sent for.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from typing import Callable, Iterator, Optional

from dstack.agent.machine import TaskFailed
from dstack.agentapi.wire import CREATE_FAILED


def members(archive: tarfile.TarFile, free_links: bool = False) -> Iterator[tarfile.TarInfo]:
    """The members, each checked, with normalized names. Raises TaskFailed for one that leaves the folder.

    With `free_links` symbolic links may lead anywhere, as those of repositories do; nothing is written through them.
    """
    links = set()
    for member in archive:
        name = _inside(member.name, member.name)
        if name == ".":
            continue
        if any(parent in links for parent in _parents(name)):
            raise _refused(member.name, "lies beyond a link")
        if member.issym():
            if not free_links:
                _inside(posixpath.join(posixpath.dirname(name), member.linkname), member.name, member.linkname)
            links.add(name)
        elif member.islnk():
            member.linkname = _inside(member.linkname, member.name)
            if member.linkname in links:
                raise _refused(member.name, "is a link to a link")
        elif not (member.isfile() or member.isdir()):
            raise _refused(member.name, "is no file, folder or link")
        elif name in links and free_links:
            raise _refused(member.name, "takes the place of a link")
        if not member.issym():
            links.discard(name)
        member.name = name
        member.mode &= 0o777  # no set-user-id bits from outside
        yield member


def unpack(path: str, target: str, free_links: bool = False) -> None:
    """Unpack the archive at `path` into the folder `target`, which is made if missing, as the agent's user."""
    os.makedirs(target, exist_ok=True)
    with _open(path) as archive:
        for member in members(archive, free_links):
            if member.isdir():
                member.mode |= 0o700
            if member.issym() or member.islnk():
                _clear(os.path.join(target, member.name))
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            _extract(archive, member, target)


def put(path: str, target: str, if_exists: str, begun: str) -> None:
    """Unpack the archive; that of a repository (`if_exists` says so) into an empty folder only.

    `begun` is a file that says, once it is there, that what is in the folder is of a try that was cut off.
    """
    target = os.path.normpath(target)
    if if_exists and not os.path.exists(begun) and os.path.isdir(target) and os.listdir(target):
        if if_exists == "skip":
            return
        raise not_empty(target)
    with open(begun, "w"):
        pass
    unpack(path, target, if_exists != "")


def repack(
    path: str,
    output: str,
    prefix: str,
    owner: Optional[Callable[[tarfile.TarInfo], None]] = None,
    free_links: bool = False,
) -> None:
    """Write a checked copy of the archive at `path` to the file `output`, every name below `prefix` (relative)."""
    with _open(path) as archive, tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as copy:
        for member in members(archive, free_links):
            member.name = posixpath.join(prefix, member.name)
            if member.islnk():
                member.linkname = posixpath.join(prefix, member.linkname)
            member.pax_headers = {}
            if owner:
                owner(member)
            copy.addfile(member, archive.extractfile(member) if member.isfile() else None)


def not_empty(target: str) -> TaskFailed:
    return TaskFailed(
        CREATE_FAILED,
        "Failed to set up the repo (%s is not empty: give the repo another `path`, or `if_exists: skip`)" % target,
    )


def _open(path: str) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:*")
    except tarfile.TarError as e:
        raise TaskFailed(CREATE_FAILED, "The code archive cannot be read: %s" % e) from None


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    if hasattr(tarfile, "fully_trusted_filter"):  # checked above, more strictly than by the filters of newer Pythons
        archive.extract(member, target, filter="fully_trusted")
    else:
        archive.extract(member, target)


def _clear(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # nothing there, or a folder, which the extraction then refuses


def _inside(path: str, name: str, shown: str = "") -> str:
    normal = posixpath.normpath(path)
    if posixpath.isabs(path) or posixpath.isabs(shown) or normal == ".." or normal.startswith("../"):
        raise _refused(name, "leaves the folder" + (" (link to %s)" % shown if shown else ""))
    return normal


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = posixpath.dirname(name)
        yield name


def _refused(name: str, why: str) -> TaskFailed:
    return TaskFailed(CREATE_FAILED, "The code archive was refused: its member %r %s" % (name, why))
