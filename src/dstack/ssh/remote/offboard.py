"""Leaves this machine as it was found: ends the agent and all that it runs, and removes every file."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from typing import Any, Dict, List
from urllib.parse import quote

from dstack.ssh.remote import service

ENGINE = "/var/run/docker.sock"
ENGINE_S = 60.0
KEEPERS_S = 20.0


def main(request: Dict[str, Any], _: bytes) -> Dict[str, Any]:
    """`request`: instance. One of the keys `done`, `taken`, `failed`; what is gone already does not matter."""
    known = service.read_json(service.HOST_ID)
    if known is not None and known.get("instance") != request["instance"]:
        return {"taken": known}
    with service.alone():
        try:
            service.stop()
            service.leave()
            service.remove_unit()
            _remove_from_engine()
            _end_keepers()
            for folder in (service.SOCKET_FOLDER, service.DATA, service.PROGRAMS):
                _remove(folder)
        except (service.Failed, OSError, subprocess.SubprocessError, http.client.HTTPException) as e:
            return {"failed": str(e) or type(e).__name__}
    with contextlib.suppress(OSError):
        os.unlink(service.LOCK)
    return {"done": "clean"}


def _remove_from_engine() -> None:
    """Containers and networks of this agent. Raises OSError when an engine is there and does not answer."""
    if not os.path.exists(ENGINE):
        return
    label = "dstack.agent=" + hashlib.sha256(service.STATE.encode()).hexdigest()[:16]
    filters = quote(json.dumps({"label": [label]}))
    for container in _engine("GET", "/containers/json?all=true&filters=" + filters):
        _engine("DELETE", "/containers/%s?force=true&v=true" % container["Id"])
    for network in _engine("GET", "/networks?filters=" + filters):
        _engine("DELETE", "/networks/" + network["Id"])


def _end_keepers() -> None:
    """The processes that keep the output of containers, which are gone by now. Raises Failed when one stays."""
    deadline = time.monotonic() + KEEPERS_S
    for control in glob.glob(service.STATE + "/tasks/*/control"):
        while _told_to_end(control):
            if time.monotonic() > deadline:
                raise service.Failed("the process that keeps the log in %s does not end" % os.path.dirname(control))
            time.sleep(0.02)


def _told_to_end(control: str) -> bool:
    """False when nobody takes orders there any more."""
    try:
        fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        os.write(fd, b"end\n")
    os.close(fd)
    return True


def _remove(folder: str) -> None:
    """Remove a folder; what somebody mounted below it is theirs and stays, with the folders that lead to it."""
    mounted = {point for point in _mount_points() if point.startswith(folder + "/")}
    if not mounted:
        shutil.rmtree(folder, ignore_errors=True)
        return
    emptied = []
    for path, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(path, name))]
        folders[:] = [name for name in folders if name not in links and os.path.join(path, name) not in mounted]
        emptied.append(path)
        for name in files + links:
            os.unlink(os.path.join(path, name))
    for path in reversed(emptied):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _mount_points() -> List[str]:
    with open("/proc/self/mounts") as f:
        return [line.split(" ")[1].replace("\\040", " ") for line in f]


def _engine(method: str, path: str) -> Any:
    connection = http.client.HTTPConnection("docker", timeout=ENGINE_S)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(ENGINE_S)
    try:
        try:
            connection.sock.connect(ENGINE)
        except OSError as e:
            raise OSError("Docker does not answer, so what runs in it cannot be ended (%s)" % e) from None
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status >= 400 and response.status != 404:
        raise OSError("Docker: %s %s: %s" % (method, path.split("?")[0], body.decode("utf-8", "replace")[:500]))
    return json.loads(body.decode() or "null") or []
