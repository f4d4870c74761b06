"""How people get into a running job, for those who attach: by which machine, to which port, with which name and key."""

from __future__ import annotations

from typing import Any

from dstack.agentapi.wire import SESSION_PORT
from dstack.model.host import Hop
from dstack.model.job import Job

HERE = "local"  # the backend whose jobs run on the server's own machine
LOOPBACK = "127.0.0.1"
ACCOUNT = "dstack"  # on hosts: it lets people through to the ports of their jobs, and has no shell
SSH_PORT = 22


def door(job: Job) -> int | None:
    """The port, on the loopback of the job's host, at which its own sshd answers."""
    return job.port_mapping.get(SESSION_PORT)


def attach(job: Job, host_keys: dict[str, str]) -> dict[str, Any] | None:
    """None while there is no way in. `host_keys`: those of hosts that are known, by instance id.

    `host` is what to go through to reach `port` on its loopback; None: the port is that of the server's own machine.
    """
    session, port = job.session, door(job)
    if not job.enterable or job.place is None or session is None:
        return None
    if port is None:
        return {"port": None, "message": session.message} if session.message else None
    found = {"port": port, "user": session.user, "host_key": session.host_key, "message": "", "host": None}
    if job.place.offer.backend != HERE:
        found["host"] = host_of(job) | {"host_key": host_keys.get(job.place.instance_id)}
    return found


def host_of(job: Job) -> dict[str, Any]:
    """The machine on which the job runs, as people reach it."""
    assert job.place is not None
    remote = job.place.remote
    if remote is None:
        return {"hostname": job.place.hostname, "port": SSH_PORT, "user": ACCOUNT, "proxy": None}
    hop, proxy = remote.hop, remote.proxy
    return {"hostname": hop.hostname, "port": hop.port, "user": ACCOUNT, "proxy": proxy and hop_of(proxy)}


def hop_of(hop: Hop) -> dict[str, Any]:
    return {"hostname": hop.hostname, "port": hop.port, "user": hop.user}


def provisioned(job: Job) -> dict[str, Any]:
    """The same in the fields of the public API: clients of it go through the host, except to jobs on this machine."""
    assert job.place is not None
    if job.place.offer.backend == HERE:
        name = job.session.user if job.session else ""
        return {"hostname": LOOPBACK, "ssh_port": door(job), "username": name, "dockerized": False, "ssh_proxy": None}
    host = host_of(job)
    proxy = host["proxy"]
    if proxy is not None:
        proxy = {"hostname": proxy["hostname"], "username": proxy["user"], "port": proxy["port"]}
    names = {"hostname": host["hostname"], "ssh_port": host["port"], "username": host["user"]}
    return {**names, "dockerized": True, "ssh_proxy": proxy}
