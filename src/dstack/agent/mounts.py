"""Folders of the host inside a job: given by path, or kept by the agent under a name."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import List

from dstack.agent.machine import Task, TaskFailed
from dstack.agentapi.wire import CREATE_FAILED, Mount

LEGAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
# Who has these has the host.
HOSTS_OWN = ("/boot", "/dev", "/etc", "/proc", "/root/.ssh", "/run/dstack", "/sys")
SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock")


@dataclass
class Bind:
    source: str
    target: str
    read_only: bool


def prepare(mounts: List[Mount], state: str) -> List[Bind]:
    """The folders, made where they are missing; an optional one that cannot be had is left out. Raises TaskFailed."""
    found = []
    for mount in mounts:
        try:
            found.append(Bind(_source(mount, state), mount.target, mount.read_only))
        except TaskFailed:
            if not mount.optional:
                raise
    return found


def for_engine(binds: List[Bind]) -> List[dict]:
    return [{"Type": "bind", "Source": b.source, "Target": b.target, "ReadOnly": b.read_only} for b in binds]


def link(task: Task, binds: List[Bind], optional: List[str]) -> None:
    """Plain processes have no mounts: each target becomes a link to its folder. Raises TaskFailed where it cannot.

    `optional`: targets of which that is no failure.
    """
    links = task.memo.setdefault("links", [])
    for bind in binds:
        try:
            _link(bind)
        except TaskFailed:
            if bind.target not in optional:
                raise
            continue
        if [bind.target, bind.source] not in links:
            links.append([bind.target, bind.source])


def unlink(task: Task) -> None:
    """Remove the task's links, but those that another task uses too, and what is no link of ours any more."""
    others = _links_of_others(task)
    for target, source in task.memo.get("links") or []:
        if target in others:
            continue
        try:
            if os.readlink(target) == source:
                os.unlink(target)
        except OSError:
            pass  # somebody else has removed it


def _source(mount: Mount, state: str) -> str:
    if mount.name:
        return _named(mount.name, state)
    path, state = mount.path, os.path.realpath(state)
    _refuse_hosts_own(mount.path, os.path.normpath(mount.path), state)
    try:
        path = os.path.realpath(mount.path)
        _refuse_hosts_own(mount.path, path, state)  # links may lead there
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        pass  # a single file
    except OSError as e:
        raise _refused("the folder %s of the host cannot be made: %s" % (mount.path, e.strerror)) from None
    return path


def _named(name: str, state: str) -> str:
    if not LEGAL_NAME.match(name):
        raise _refused("%r is no legal name of a folder" % name)
    path = os.path.join(state, "volumes", name)
    try:
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)  # jobs run as whatever user their image says; nobody else gets past the agent's folder
    except OSError as e:
        raise _refused("the folder %s cannot be made on the host: %s" % (name, e.strerror)) from None
    return path


def _refuse_hosts_own(asked: str, path: str, state: str) -> None:
    for own in (*HOSTS_OWN, *SOCKETS, state):
        if _inside(own, path) or _inside(path, own):
            raise _refused("%s is the host's own: who has it has the host" % asked)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _link(bind: Bind) -> None:
    try:
        if os.path.islink(bind.target) and os.readlink(bind.target) == bind.source:
            return
        if os.path.lexists(bind.target):
            raise _refused(
                "jobs run as plain processes on this machine, and it has a %s of its own" % bind.target,
            )
        os.makedirs(os.path.dirname(bind.target), exist_ok=True)
        os.symlink(bind.source, bind.target)
    except OSError as e:
        message = "jobs run as plain processes on this machine, where %s cannot be made: %s" % (bind.target, e.strerror)
        raise _refused(message) from None


def _links_of_others(task: Task) -> List[str]:
    """From the other tasks' states on disk."""
    folder, found = os.path.dirname(task.directory), []
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name == os.path.basename(task.directory):
            continue
        try:
            with open(os.path.join(folder, name, "state.json"), "rb") as f:
                memo = json.loads(f.read().decode()).get("memo") or {}
        except (OSError, ValueError, AttributeError):
            continue
        found += [target for target, _ in memo.get("links") or []]
    return found


def _refused(words: str) -> TaskFailed:
    return TaskFailed(CREATE_FAILED, "`volumes`: " + words)
