"""Files of a container before it starts: its users, its working directory, the code that is put into it."""

from __future__ import annotations

import asyncio
import io
import os
import posixpath
import tarfile
from typing import Dict, List, Optional, Sequence, Tuple

from dstack.agent import archives
from dstack.agent.docker_client import DockerClient, EngineError
from dstack.agent.machine import Task, TaskFailed
from dstack.agent.runtime import Host
from dstack.agentapi.wire import CREATE_FAILED, TaskSpec

MAX_PASSWD_BYTES = 4 * 1024 * 1024


class Account:
    """The user as whom the job runs, by the container's own files."""

    def __init__(self, uid: int, gid: int, home: str):
        self.uid = uid
        self.gid = gid
        self.home = home


async def find_account(docker: DockerClient, container: str, user: str) -> Account:
    """`user` is `name|uid[:group|gid]`, "" is root. What the container's files do not tell is root's or `/`."""
    name, _, group = user.partition(":")
    if name in ("", "root", "0") and group in ("", "root", "0"):
        return Account(0, 0, "/root")
    for fields in await _table(docker, container, "/etc/passwd"):
        if len(fields) >= 6 and name in (fields[0], fields[2]):
            gid = await _group(docker, container, group) if group else int(fields[3])
            return Account(int(fields[2]), gid, fields[5] or "/")
    gid = await _group(docker, container, group) if group else 0
    return Account(int(name) if name.isdigit() else 0, gid, "/root" if name in ("", "0") else "/")


async def passwd_and_group(docker: DockerClient, container: str) -> Tuple[List[List[str]], List[List[str]]]:
    """The container's accounts and groups, line by line, as fields."""
    return await _table(docker, container, "/etc/passwd"), await _table(docker, container, "/etc/group")


async def own_new_folders(docker: DockerClient, container: str, folder: str, account: Account, spool: str) -> None:
    """The engine makes a missing working directory as root's: hand what it made over to the job's user."""
    changes = await docker.json("GET", "/containers/%s/changes" % container) or []
    added = {change["Path"] for change in changes if change.get("Kind") == 1}
    paths = [path for path in _ancestry(folder) if path in added]
    await _put_folders(docker, container, paths, account, spool)


async def put_archives(
    docker: DockerClient, container: str, task: Task, spec: TaskSpec, folder: str, account: Account, host: Host
) -> None:
    """Unpack the task's archives in the created container, as the job's user's files. Raises TaskFailed."""
    loop = asyncio.get_running_loop()
    spool = os.path.join(task.directory, "spool.tar")

    def own(member: tarfile.TarInfo) -> None:
        member.uid, member.gid, member.uname, member.gname = account.uid, account.gid, "", ""

    for archive in spec.archives:
        target = resolve(archive.path, account.home, folder)
        is_repo = archive.if_exists != ""
        try:
            if is_repo and await _has_content(docker, container, target):
                if archive.if_exists == "skip":
                    continue
                raise archives.not_empty(target)
            missing = [path for path in _ancestry(target) if not await exists(docker, container, path)]
            await _put_folders(docker, container, missing, account, spool)
            prefix = target.lstrip("/") or "."
            await loop.run_in_executor(None, archives.repack, host.blob(archive.sha256), spool, prefix, own, is_repo)
            await _put(docker, container, spool)
        except EngineError as e:
            raise TaskFailed(CREATE_FAILED, "The code cannot be unpacked to %s: %s" % (target, e.message)) from None
        finally:
            _unlink(spool)


async def put_file(docker: DockerClient, container: str, path: str, content: str, spool: str) -> None:
    """A small file that everyone in the container may read."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.mode = 0o644
    await put_members(docker, container, [(member, content.encode())], spool)


async def put_members(
    docker: DockerClient, container: str, members: Sequence[Tuple[tarfile.TarInfo, bytes]], spool: str
) -> None:
    """Small files and folders, each as its `TarInfo` describes it, below `/`."""
    try:
        with tarfile.open(spool, "w", format=tarfile.PAX_FORMAT) as tar:
            for member, data in members:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        await _put(docker, container, spool)
    finally:
        _unlink(spool)


def resolve(path: str, home: str, folder: str) -> str:
    """`path` in the container as an absolute one: `~` is `home`, relative ones are below `folder`."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return posixpath.normpath(posixpath.join("/", folder, path))


async def _put_folders(docker: DockerClient, container: str, paths: List[str], account: Account, spool: str) -> None:
    if not paths:
        return
    with tarfile.open(spool, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            member.uid, member.gid = account.uid, account.gid
            tar.addfile(member)
    try:
        await _put(docker, container, spool)
    finally:
        _unlink(spool)


async def _put(docker: DockerClient, container: str, path: str) -> None:
    async with await docker.open("PUT", "/containers/%s/archive" % container, {"path": "/"}, file=path) as exchange:
        await exchange.body()


async def exists(docker: DockerClient, container: str, path: str) -> bool:
    try:
        async with await docker.open("HEAD", "/containers/%s/archive" % container, {"path": path}):
            return True
    except EngineError as e:
        if e.status != 404:
            raise
        return False


async def _has_content(docker: DockerClient, container: str, path: str) -> bool:
    """Whether there is anything in the folder; of a large one only the beginning is read."""
    data = b""
    try:
        async with await docker.open("GET", "/containers/%s/archive" % container, {"path": path}) as exchange:
            async for piece in exchange.pieces():
                data += piece
                if _count(data) > 1:
                    return True
    except EngineError as e:
        if e.status != 404:
            raise
    return _count(data) > 1


def _count(data: bytes) -> int:
    """How many members this beginning of an archive shows, 2 at most."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return 2 if tar.next() is not None and tar.next() is not None else 1
    except tarfile.TarError:
        return 0


async def _table(docker: DockerClient, container: str, path: str) -> List[List[str]]:
    """Lines of a file like /etc/passwd, split; empty when the container has none."""
    return [line.split(":") for line in (await read_text(docker, container, path)).splitlines()]


async def read_text(docker: DockerClient, container: str, path: str) -> str:
    """A small file of the container; "" when it has none."""
    data = b""
    try:
        async with await docker.open("GET", "/containers/%s/archive" % container, {"path": path}) as exchange:
            async for piece in exchange.pieces():
                data += piece
                if len(data) > MAX_PASSWD_BYTES:
                    return ""
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            file = tar.extractfile(tar.next() or tarfile.TarInfo())
            return file.read().decode("utf-8", "replace") if file else ""
    except (EngineError, tarfile.TarError, KeyError, OSError):
        return ""


async def _group(docker: DockerClient, container: str, group: str) -> int:
    if group.isdigit():
        return int(group)
    known: Dict[str, str] = {f[0]: f[2] for f in await _table(docker, container, "/etc/group") if len(f) > 2}
    found: Optional[str] = known.get(group)
    return int(found) if found and found.isdigit() else 0


def _ancestry(path: str) -> Tuple[str, ...]:
    """`/a`, `/a/b`, `/a/b/c` for `/a/b/c`."""
    parts = [part for part in path.split("/") if part]
    return tuple("/" + "/".join(parts[: n + 1]) for n in range(len(parts)))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
