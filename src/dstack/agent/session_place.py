"""Where a session of a task begins: the facts that `enter` needs, written down when the task runs."""

from __future__ import annotations

import json
import os
import posixpath
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import urlsplit

from dstack.agent import processes
from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.docker_files import exists, passwd_and_group
from dstack.agent.docker_spec import SOCKETS_IN_CONTAINER, resource_name
from dstack.agent.machine import Task
from dstack.agent.process_job import expand, home_folder, job_environment
from dstack.agent.runtime import place_variables
from dstack.agent.store import write_atomic
from dstack.agentapi.wire import DOCKER

NO_SHELLS = ("false", "true", "nologin", "sync", "shutdown", "halt")
Facts = Dict[str, Any]


class NoPlace(Exception):
    """Sessions cannot begin; the text says why, for people."""


def write_place(task: Task, place: Facts) -> None:
    write_atomic(os.path.join(task.directory, "session.json"), json.dumps(place).encode())


def process_place(task: Task) -> Facts:
    """A session beside the job: the job's own environment and folder, under the same user."""
    spec = task.spec
    assert spec is not None
    home = spec.env.get("HOME") or spec.home_dir or home_folder()
    env = job_environment(spec, home)
    env.update(_environment_of_job(task.directory))
    cwd = task.report.working_dir or expand(spec.working_dir, home)
    env.update(place_variables(cwd))
    env.update(spec.env)
    for name in ("TERM", "OLDPWD", "PWD", "SHLVL", "_"):
        env.pop(name, None)
    shell = env.get("SHELL") or "/bin/sh"
    return {"kind": "process", "env": env, "cwd": cwd, "home": home, "shell": shell}


async def docker_place(task: Task, docker: DockerClient, rooted: bool) -> Facts:
    """A session in the task's container. `rooted`: the agent is root on the machine where the engine is.

    Raises NoPlace, EngineError, EngineUnreachable.
    """
    spec = task.spec
    assert spec is not None
    name = resource_name(task.id)
    facts = await docker.json("GET", "/containers/%s/json" % name)
    state, config = facts["State"], facts.get("Config") or {}
    if not state.get("Running"):
        raise NoPlace("the container does not run")
    user = str(config.get("User") or "")
    account = await _account(docker, name, user)
    env = dict(line.split("=", 1) for line in config.get("Env") or [] if "=" in line)
    init = processes.find(int(state["Pid"])) if rooted else None
    if rooted and not _holds(int(state["Pid"]), facts["Id"]):
        init = None  # the engine is on another machine
    return {
        "kind": "docker",
        "engine": _engine_address(docker.url),
        "container": facts["Id"],
        "pid": init.pid if init else 0,
        "start": init.start if init else "",
        "user": user,
        "uid": account["uid"],
        "gid": account["gid"],
        "groups": account["groups"],
        "home": env.get("HOME") or account["home"],
        "shell": account["shell"],
        "cwd": config.get("WorkingDir") or task.report.working_dir or "/",
        "env": {
            key: value
            for key, value in (("SHELL", account["shell"]), ("USER", account["name"]), ("LOGNAME", account["name"]))
            if key not in env
        },
        "sockets": os.path.join(task.directory, "sockets") if _has_sockets(facts) else "",
        "sockets_inside": SOCKETS_IN_CONTAINER,
        "files": _name_files(facts),
    }


def open_network(place: Facts) -> int:
    """A descriptor of the container's network. Raises NoPlace when the process is not the one it was."""
    return _open_of_init(place, "ns/net")


def _open_of_init(place: Facts, what: str) -> int:
    try:
        fd = os.open("/proc/%d/%s" % (place["pid"], what), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise NoPlace("the job has ended") from None
    row = processes.find(place["pid"])  # after the opening: a number that was used again shows here
    if row is None or row.start != place["start"]:
        os.close(fd)
        raise NoPlace("the job has ended")
    return fd


async def _account(docker: DockerClient, container: str, user: str) -> Facts:
    """Who the task's user is by the container's own files; they may be missing, or lie."""
    name, _, group = user.partition(":")
    passwd, groups = await passwd_and_group(docker, container)
    row = _row(passwd, name or "0")
    uid = int(row[2]) if row else (int(name) if name.isdigit() else 0)
    gid = int(row[3]) if row and row[3].isdigit() else 0
    if group:
        gid = _group_number(groups, group)
    login = row[0] if row else (name or "root")
    more = [int(g[2]) for g in groups if len(g) > 3 and g[2].isdigit() and login in g[3].split(",")]
    home = (row[5] if row else "") or ("/root" if uid == 0 else "/")
    shell = await _shell(docker, container, row[6] if row and len(row) > 6 else "")
    return {"name": login, "uid": uid, "gid": gid, "groups": more[:64], "home": home, "shell": shell}


async def _shell(docker: DockerClient, container: str, wanted: str) -> str:
    """The account's login shell if it is one and is there, else a plain one."""
    if wanted.startswith("/") and posixpath.basename(wanted) not in NO_SHELLS:
        try:
            if await exists(docker, container, wanted):
                return wanted
        except EngineError:
            pass  # a path that leads nowhere
    return "/bin/sh"


def _row(passwd: List[List[str]], name: str) -> Optional[List[str]]:
    for fields in passwd:
        if len(fields) >= 6 and name in (fields[0], fields[2]) and fields[2].isdigit():
            return fields
    return None


def _group_number(groups: List[List[str]], group: str) -> int:
    if group.isdigit():
        return int(group)
    return next((int(g[2]) for g in groups if len(g) > 2 and g[0] == group and g[2].isdigit()), 0)


def _environment_of_job(directory: str) -> Dict[str, str]:
    """What the job was started with; empty where the kernel does not tell."""
    try:
        with open(os.path.join(directory, "holder.json")) as f:
            record = json.load(f)
        row = processes.find(int(record.get("job_pid") or 0))
        if row is None or row.start != record.get("job_start"):
            return {}
        with open("/proc/%d/environ" % row.pid, "rb") as f:
            lines = f.read().decode("utf-8", "surrogateescape").split("\0")
    except (OSError, ValueError):
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _engine_address(url: str) -> Any:
    """Path of the engine's Unix socket, or [host, port]. Raises NoPlace for what a session cannot speak."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    if parts.scheme in ("tcp", "http") and not os.environ.get("DOCKER_TLS_VERIFY"):
        return [parts.hostname or "127.0.0.1", parts.port or 2375]
    raise NoPlace("sessions over an engine at %s are not possible" % url)


def _holds(pid: int, container: str) -> bool:
    """Whether a process of this machine is in that container."""
    try:
        with open("/proc/%d/cgroup" % pid) as f:
            return container in f.read() or _same_name(pid, container)
    except OSError:
        return False


def _same_name(pid: int, container: str) -> bool:
    """Control groups of version 2 may be hidden from view: then the name by which the kernel's mounts call it."""
    try:
        with open("/proc/%d/mountinfo" % pid) as f:
            return container in f.read()
    except OSError:
        return False


def _has_sockets(facts: Facts) -> bool:
    return any(mount.get("Destination") == SOCKETS_IN_CONTAINER for mount in facts.get("Mounts") or [])


def _name_files(facts: Facts) -> List[List[str]]:
    """The container's files of names and addresses, for the names that people forward to."""
    found: List[List[str]] = []
    pairs: Tuple[Tuple[str, str], ...] = (("ResolvConfPath", "/etc/resolv.conf"), ("HostsPath", "/etc/hosts"))
    for key, where in pairs:
        path = str(facts.get(key) or "")
        if path and os.path.isfile(path):
            found.append([path, where])
    return found


def is_docker(task: Task) -> bool:
    return task.report.runtime == DOCKER


__all__ = [
    "EngineError",
    "EngineUnreachable",
    "NoPlace",
    "docker_place",
    "is_docker",
    "open_network",
    "process_place",
    "write_place",
]
