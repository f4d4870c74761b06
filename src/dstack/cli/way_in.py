"""From what the server says of a job to entries of the SSH configuration: straight to it, through its host, or
through the server."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dstack.cli.attach_home import AttachHome
from dstack.cli.render import runs as words
from dstack.errors import DstackError
from dstack.ssh.config import control_path, entry, replace

Json = dict[str, Any]

TRY_S = 3.0
LOOPBACK = "127.0.0.1"
_PLAIN = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:%@-]*\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+\Z")
ALIVE = (("ServerAliveInterval", 15), ("ServerAliveCountMax", 3), ("TCPKeepAlive", "yes"))


@dataclass(frozen=True)
class Way:
    """`attach` is `x_attach` of the submission; `serial` tells one attempt of the job from the next.

    `folder` is where the job works.
    """

    run: str
    run_id: str
    job: str
    job_num: int
    replica_num: int
    serial: str
    attach: Json
    runtime: str = "docker"
    folder: str = "/"

    @property
    def alias(self) -> str:
        """The run's own name for its first job, the job's for others."""
        return self.run if (self.job_num, self.replica_num) == (0, 0) else self.job

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([self.alias, self.job]))

    @property
    def host(self) -> Json | None:
        return self.attach.get("host")

    def same_machine(self, through_server: bool) -> bool:
        """The job runs here, as a plain process: its ports are those of this machine."""
        return self.host is None and not through_server and self.runtime == "process"


def way_in(run: Json, job: Json) -> Way | None:
    """None while nobody gets in, or for good: `x_attach.message` then says why."""
    spec, submission = job["job_spec"], job["job_submissions"][-1]
    attach = submission.get("x_attach") or {}
    if submission["status"] not in ("running", "terminating") or not attach.get("port"):
        return None
    _check(attach, words.name(run), spec["job_name"], submission["id"])
    number, replica = int(spec["job_num"]), int(spec.get("replica_num", 0))
    runtime = (submission.get("job_provisioning_data") or {}).get("x_runtime") or "docker"
    folder = (submission.get("job_runtime_data") or {}).get("working_dir") or "/"
    name, job_name = words.name(run), spec["job_name"]
    return Way(name, run["id"], job_name, number, replica, submission["id"], attach, runtime, folder)


def _check(attach: Json, *names: Any) -> None:
    """What others wrote must not become options of somebody's SSH, nor the way to another file of theirs."""
    host = attach.get("host") or {}
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise DstackError("The server names a run that cannot be one")
    ports = [attach["port"], *(one["port"] for one in (host, host.get("proxy")) if one)]
    if not all(isinstance(port, int) for port in ports):
        raise DstackError("The server names a port that is none")
    texts = [attach["user"], *(one.get(key) for one in (host, host.get("proxy") or {}) for key in ("hostname", "user"))]
    if any(text is not None and not _PLAIN.fullmatch(str(text)) for text in texts):
        raise DstackError("The server names a host or user that cannot be one")
    keys = [attach["host_key"], host.get("host_key")]
    if any(key is not None and not _KEY.fullmatch(key) for key in keys):
        raise DstackError("The server names a host key that is none")


def reachable(way: Way) -> bool:
    """Whether there is a route from here; where a login node is in between, nobody can tell."""
    host = way.host
    if host is not None and host.get("proxy"):
        return True
    where = (LOOPBACK, way.attach["port"]) if host is None else (host["hostname"], host["port"])
    try:
        with socket.create_connection(where, TRY_S) as connection:
            connection.settimeout(TRY_S)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def write_entries(home: AttachHome, way: Way, identity: Path, project: str, through_server: bool) -> Path:
    """Enter the job into the configuration; the socket of its shared connection. Raises OSError."""
    folder = home.config.folder
    known = folder / f"{way.alias}.known_hosts"
    socket_path = control_path(folder, way.alias)
    replace(known, _known(way).encode())
    common = [
        ("IdentityFile", identity),
        ("IdentitiesOnly", "yes"),
        ("UserKnownHostsFile", known),
        ("GlobalKnownHostsFile", Path("/dev/null")),
        ("UpdateHostKeys", "no"),
        *ALIVE,
    ]
    own = [
        ("HostName", LOOPBACK),
        ("Port", way.attach["port"]),
        ("User", way.attach["user"]),
        ("HostKeyAlias", f"dstack-{way.serial}"),
        ("StrictHostKeyChecking", "yes"),
        *common,
        ("ControlMaster", "auto"),
        ("ControlPath", socket_path),
    ]
    text = ""
    if way.host is not None:
        text = _host_entry(way, way.host, common)
    if through_server:
        own.append(("ProxyCommand", _stdio_command(way, project)))
    elif way.host is not None:
        own.append(("ProxyJump", f"{way.alias}-host"))
    home.config.put(way.alias, way.serial, text + entry(way.names, own), os.getpid())
    return socket_path


def remove_entries(home: AttachHome, way: Way) -> None:
    """Leave the configuration; what only this run needed goes with the last who is attached to it."""
    try:
        if home.config.leave(way.alias, os.getpid()):
            (home.config.folder / f"{way.alias}.known_hosts").unlink(missing_ok=True)
    except OSError:
        pass  # the next who attaches takes it away


def _host_entry(way: Way, host: Json, common: list[tuple[str, object]]) -> str:
    options: list[tuple[str, object]] = [
        ("HostName", host["hostname"]),
        ("Port", host["port"]),
        ("User", host["user"]),
        ("HostKeyAlias", f"dstack-host-{way.serial}"),
        ("StrictHostKeyChecking", "yes" if host.get("host_key") else "accept-new"),
        *common,
    ]
    if proxy := host.get("proxy"):
        # Under its own name, so that what the person's configuration says of it counts: key, user, known hosts.
        options.append(("ProxyJump", f"{proxy['user']}@{_bracketed(proxy['hostname'])}:{proxy['port']}"))
    return entry([f"{way.alias}-host"], options)


def _known(way: Way) -> str:
    lines = [f"dstack-{way.serial} {way.attach['host_key']}\n"]
    if way.host is not None and way.host.get("host_key"):
        lines.append(f"dstack-host-{way.serial} {way.host['host_key']}\n")
    return "".join(lines)


def _stdio_command(way: Way, project: str) -> str:
    words_ = [sys.executable, "-m", "dstack.cli.main", "ssh-stdio", "--project", project, way.run]
    words_ += ["--job", str(way.job_num), "--replica", str(way.replica_num)]
    return " ".join(shlex.quote(word).replace("%", "%%") for word in words_)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
