"""From a task's description to what the engine is asked to create."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from dstack.agent.docker_logs import LOG_CONFIG, UNREAD_LOG_CONFIG
from dstack.agent.docker_terminal import mount_of, onto_terminal
from dstack.agent.gpu_options import Options, infiniband, merge
from dstack.agent.runtime import place_variables
from dstack.agentapi.wire import TaskSpec

TASK_LABEL = "dstack.task"
AGENT_LABEL = "dstack.agent"
MPI_HOSTFILE = "/dstack/mpi/hostfile"
SOCKETS_IN_CONTAINER = "/.dstack/agent"  # where the ssh-agents of people who are in appear


def resource_name(task_id: str) -> str:
    """The name of a task's container, and of its network."""
    return "dstack-" + task_id


def labels(task_id: str, state: str) -> Dict[str, str]:
    """Say whose it is: several agents, each with its own state folder, may share one engine."""
    return {TASK_LABEL: task_id, AGENT_LABEL: agent_label(state)}


def agent_label(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:16]


def container_body(
    spec: TaskSpec,
    state: str,
    working_dir: str,
    init: bool,
    extras: Sequence[Options] = (),
    repo_dir: str = "",
    terminal: str = "",
    dev: str = "/dev",
) -> Dict[str, Any]:
    """The body of `POST /containers/create`; `extras` (accelerators, mounts) are merged into it, the later ones win.

    `terminal` is the name of the one that the job's shell is to print to. A job with the host's network has its
    InfiniBand, too, whose nodes are below `dev`.
    """
    if terminal:
        extras = [*extras, Options({"Mounts": [mount_of(terminal)]})]
    if spec.network == "host":
        extras = [*extras, infiniband(dev)]
    env = _environment(spec, place_variables(working_dir, repo_dir), extras)
    body: Dict[str, Any] = {
        "Image": spec.image,
        "Env": ["%s=%s" % item for item in env.items()],
        "Labels": labels(spec.id, state),
        "Tty": True,  # colours and line buffering, as in a terminal
        "User": spec.user,
        "WorkingDir": working_dir,
        "HostConfig": _host_config(spec, init, extras),
    }
    entrypoint, args = command(spec, bool(terminal))
    if entrypoint is not None:
        body["Entrypoint"] = entrypoint
    if args:
        body["Cmd"] = args
    if spec.network != "host":
        body["Hostname"] = re.sub(r"[^A-Za-z0-9-]", "-", spec.name)[:63].strip("-") or "task"
        body["ExposedPorts"] = {"%d/tcp" % port: {} for port in spec.ports}
    return body


def command(spec: TaskSpec, on_terminal: bool = False) -> Tuple[Optional[List[str]], List[str]]:
    """(entrypoint, arguments); None is the image's own."""
    if spec.script is None:
        return spec.entrypoint, list(spec.args)
    shell = spec.shell or "/bin/sh"
    argv = [shell, "-c", spec.script]
    if shell.rsplit("/", 1)[-1] == "bash":
        # Only an interactive bash reads ~/.bashrc, where images set PATH up. But it also writes job-control messages
        # and "exit" into the log, and stops background jobs that read: it only loads the environment, then gives way.
        argv = [shell, "-i", "-c", 'exec "$0" -c "$1"', shell, spec.script]
    argv = onto_terminal(shell, argv) if on_terminal else argv
    return argv[:-1], argv[-1:]


def bridge_name(task_id: str) -> str:
    """Of the task's network on the machine; the packet filter's rules go by how it begins."""
    return "dst-" + hashlib.sha256(task_id.encode()).hexdigest()[:10]


def sockets_bind(task_id: str, state: str) -> str:
    """The task's folder for sockets, seen but not written to from inside."""
    return "%s:%s:ro" % (os.path.join(state, "tasks", task_id, "sockets"), SOCKETS_IN_CONTAINER)


def _environment(spec: TaskSpec, place: Dict[str, str], extras: Sequence[Options]) -> Dict[str, str]:
    """The job's own variables win over those that say where it is, the accelerators' over all."""
    env = {**place, **spec.env}
    if spec.mpi_hostfile:
        env.setdefault("DSTACK_MPI_HOSTFILE", MPI_HOSTFILE)
    if spec.home_dir:
        env.setdefault("HOME", spec.home_dir)
    for extra in extras:
        env.update(extra.env)
    return env


def _host_config(spec: TaskSpec, init: bool, extras: Sequence[Options]) -> Dict[str, Any]:
    config: Dict[str, Any] = {
        "NetworkMode": "host" if spec.network == "host" else resource_name(spec.id),
        "Init": init,  # signals reach the job, orphans are reaped
        "LogConfig": LOG_CONFIG if os.geteuid() == 0 else UNREAD_LOG_CONFIG,
        "Privileged": spec.privileged,
        "RestartPolicy": {"Name": "no"},  # whether to try again is the server's to decide
    }
    if spec.network != "host":
        # Bound to this machine's loopback: who may come in from outside is not the engine's to decide.
        config["PortBindings"] = {"%d/tcp" % port: [{"HostIp": "127.0.0.1", "HostPort": ""}] for port in spec.ports}
    if spec.docker:  # an engine's layers cannot lie on the layers of another one
        config["Mounts"] = [{"Type": "volume", "Target": "/var/lib/docker"}]
    if spec.cpu_limit > 0:
        config["NanoCpus"] = int(spec.cpu_limit * 1e9)
    if spec.memory_limit_bytes > 0:
        config["Memory"] = config["MemorySwap"] = spec.memory_limit_bytes  # the same: no swap
    if spec.shm_bytes > 0:
        config["ShmSize"] = spec.shm_bytes
    for extra in extras:
        merge(config, extra)
    return config
