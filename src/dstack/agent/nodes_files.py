"""What a container holds so that plain `ssh ADDRESS` reaches the other nodes: key, known hosts, configuration."""

from __future__ import annotations

import posixpath
import tarfile
from typing import List, Tuple

from dstack.agent.docker_client import DockerClient
from dstack.agent.docker_files import Account, put_members, read_text
from dstack.agentapi.wire import NodeSsh

KEY = "dstack_job"
# The others may be a moment behind: whoever is first asks again, once a second.
ATTEMPTS = 60


async def put_node_files(docker: DockerClient, container: str, ssh: NodeSsh, account: Account, spool: str) -> None:
    """Put them in the home of the job's user, before what the image has there. Raises EngineError."""
    folder = posixpath.join(account.home, ".ssh")
    config = configuration(ssh) + await read_text(docker, container, folder + "/config")
    known = await read_text(docker, container, folder + "/known_hosts")
    if known and not known.endswith("\n"):
        known += "\n"
    contents = (
        (KEY, ssh.private_key, 0o600),
        (KEY + ".pub", ssh.public_key + "\n", 0o644),
        ("config", config, 0o600),
        ("known_hosts", known + known_hosts(ssh), 0o644),
    )
    members: List[Tuple[tarfile.TarInfo, bytes]] = [(_member(folder, account, 0o700, tarfile.DIRTYPE), b"")]
    for name, content, mode in contents:
        members.append((_member(folder + "/" + name, account, mode), content.encode()))
    await put_members(docker, container, members, spool)


def configuration(ssh: NodeSsh) -> str:
    """For `~/.ssh/config`: only the nodes' addresses are spoken of."""
    return (
        "# Written by dstack: the nodes of this job.\n"
        "Host %s\n"
        "  User root\n"
        "  Port %d\n"
        "  IdentityFile ~/.ssh/%s\n"
        "  IdentitiesOnly yes\n"
        "  StrictHostKeyChecking yes\n"
        "  ConnectTimeout 10\n"
        "  ConnectionAttempts %d\n"
        "  LogLevel ERROR\n"
        "Host *\n"
    ) % (" ".join(ssh.nodes), ssh.port, KEY, ATTEMPTS)


def known_hosts(ssh: NodeSsh) -> str:
    return "".join("[%s]:%d %s\n" % (node, ssh.port, ssh.host_public) for node in ssh.nodes)


def _member(path: str, account: Account, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path.lstrip("/"))
    member.type, member.mode = kind, mode
    member.uid, member.gid = account.uid, account.gid
    return member
