"""The agent as a service of this machine: where its files are, whether it answers, its start and its end."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Tuple

PROGRAMS = "/opt/dstack"
LINK = PROGRAMS + "/agent.pyz"
RECORD = PROGRAMS + "/agent.json"  # which it is and how it is started: {"sha", "version", "python", "owner_uid"}
PYTHON = PROGRAMS + "/python"  # the path of the interpreter alone, for a shell
DATA = "/var/lib/dstack"
STATE = DATA + "/agent"
HOST_ID = DATA + "/host-id"  # whose host this is: {"instance", "label"}; no secret
SOCKET_FOLDER = "/run/dstack"
SOCKET = SOCKET_FOLDER + "/agent.sock"
ACCOUNT = "dstack"  # leads people to the doors of their tasks; made by the agent
LOCK = "/run/lock-dstack-host"  # two servers may come at once
UNIT_NAME = "dstack-agent.service"
UNIT = "/etc/systemd/system/" + UNIT_NAME
# Where accelerators' tools live, too: a session over SSH has a short PATH.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/rocm/bin:/usr/local/cuda/bin"
HEALTHY_S = 20.0
STOP_S = 10.0
UNIT_TEXT = """\
[Unit]
Description=dstack agent
After=network-online.target docker.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=%s
Environment=PATH=%s
Restart=always
RestartSec=1
KillMode=process
RuntimeDirectory=dstack
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes

[Install]
WantedBy=multi-user.target
"""


class Failed(Exception):
    """The agent does not start; the message has its last words."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nobody else changes the agent of this machine meanwhile."""
    with open(LOCK, "a") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def read_json(path: str) -> Optional[Dict[str, Any]]:
    try:
        with open(path) as f:
            data = json.load(f)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def write(path: str, data: bytes, mode: int = 0o644) -> None:
    """Whole or not at all. Raises OSError."""
    fresh = path + ".new"
    with open(fresh, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.chmod(fresh, mode)
    os.replace(fresh, path)


def health(patience_s: float = 3.0) -> Optional[Dict[str, Any]]:
    """What the agent says of itself; None when it does not answer."""
    return _ask("/v1/health", patience_s)


def tasks(patience_s: float = 10.0) -> Optional[FrozenSet[str]]:
    """The ids of all that the agent knows; None when it does not answer."""
    answer = _ask("/v1/tasks", patience_s)
    return None if answer is None else frozenset(str(task.get("id")) for task in answer.get("tasks") or [])


def newer(one: str, other: str) -> bool:
    """Whether version `one` came after `other`; one that is not known came before all."""
    return _order(one) > _order(other)


def _order(version: str) -> Tuple[List[int], bool, List[int]]:
    """`0.22.10` after `0.22.9`, and after `0.22.10rc1`."""
    found = re.match(r"(\d+(?:\.\d+)*)(.*)", version.strip())
    if found is None:
        return [], False, []
    release = [int(part) for part in found.group(1).split(".")]
    while release and not release[-1]:
        del release[-1]
    rest = found.group(2).partition("+")[0]
    return release, not rest or rest.startswith(".post"), [int(part) for part in re.findall(r"\d+", rest)]


def _ask(path: str, patience_s: float) -> Optional[Dict[str, Any]]:
    connection = http.client.HTTPConnection("agent", timeout=patience_s)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(patience_s)
        connection.sock.connect(SOCKET)
        connection.request("GET", path)
        response = connection.getresponse()
        answer = json.loads(response.read().decode()) if response.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def start() -> None:
    """Start the agent and wait until it answers. Raises Failed."""
    if managed():
        _systemctl("restart", UNIT_NAME)
    else:
        os.makedirs(SOCKET_FOLDER, mode=0o755, exist_ok=True)
        os.chmod(SOCKET_FOLDER, 0o755)
        environment = dict(os.environ, PATH=PATH)
        for name in [name for name in environment if name.startswith("SUDO_")]:
            del environment[name]
        done = subprocess.run(
            [*command(), "--daemon"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            timeout=HEALTHY_S,
        )
        # "Already served": somebody was quicker; whether it answers is what counts.
        if done.returncode and health() is None:
            raise Failed(done.stdout.decode("utf-8", "replace")[-2000:].strip())
    deadline = time.monotonic() + HEALTHY_S
    while health() is None:
        if time.monotonic() > deadline:
            raise Failed(last_words())
        time.sleep(0.05)


def stop() -> None:
    """End the agent, asked first; its tasks go on. Returns when it is gone."""
    pid = running()
    if managed() and os.path.exists(UNIT):
        _systemctl("stop", UNIT_NAME)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        if running():
            pid = running()
            _signal(pid, number)
        # It lets go of the lock a moment before it ends.
        while (running() or (pid and os.path.exists("/proc/%d" % pid))) and time.monotonic() < deadline:
            time.sleep(0.02)


def running() -> int:
    """The pid of the agent that holds the lock of the state folder; 0 when there is none."""
    try:
        fd = os.open(STATE + "/agent.lock", os.O_RDWR)
    except OSError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 0
    except OSError:
        with open(STATE + "/agent.pid") as f:
            return int(f.read() or "0")
    finally:
        os.close(fd)


def managed() -> bool:
    """Whether systemd runs this machine."""
    return os.path.isdir("/run/systemd/system")


def write_unit() -> None:
    """Tell systemd of the agent, where it runs. Raises OSError, Failed."""
    if managed():
        write(UNIT, (UNIT_TEXT % (" ".join(command()), PATH)).encode())
        _systemctl("daemon-reload")
        _systemctl("enable", UNIT_NAME)


def remove_unit() -> None:
    if os.path.exists(UNIT):
        if managed():
            _systemctl("disable", UNIT_NAME)
        os.unlink(UNIT)
        if managed():
            _systemctl("daemon-reload")


def command() -> list:
    """The agent's command line, as the record says."""
    record = read_json(RECORD) or {}
    argv = [record.get("python") or sys.executable, "-IS", LINK, "serve", "--state", STATE, "--socket", SOCKET]
    argv += ["--runtime", "docker", "--guard", "--jump-account", ACCOUNT]
    if record.get("owner_uid"):
        argv += ["--socket-owner", str(record["owner_uid"])]
    return argv


def leave() -> None:
    """Take away what the agent made outside of its folders: packet rules, the account. Raises Failed."""
    if not os.path.exists(LINK):
        return
    record = read_json(RECORD) or {}
    done = subprocess.run(
        [record.get("python") or sys.executable, "-IS", LINK, "leave", "--jump-account", ACCOUNT],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    if done.returncode:
        raise Failed(done.stdout.decode("utf-8", "replace")[-1000:].strip())


def last_words() -> str:
    """The end of the agent's log."""
    if managed():
        done = subprocess.run(
            ["journalctl", "--unit", UNIT_NAME, "--lines", "20", "--no-pager", "--output", "cat"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=STOP_S,
        )
        return done.stdout.decode("utf-8", "replace")[-2000:].strip()
    try:
        with open(STATE + "/agent.log", "rb") as f:
            return f.read()[-2000:].decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(
        ("systemctl", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    if done.returncode:
        words = done.stdout.decode("utf-8", "replace").strip()
        raise Failed("systemctl %s: %s" % (" ".join(arguments), words[-1000:]))


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended by itself
