"""The door of one task: a port on loopback behind which an sshd of the task's own answers each connection."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import re
import shutil
import socket
from typing import Any, Dict, List, Optional

from dstack.agent import keys
from dstack.agent.aside import aside
from dstack.agent.docker_client import DockerClient
from dstack.agent.machine import Task
from dstack.agent.processes import LINUX
from dstack.agent.session_connections import Connections
from dstack.agent.session_log import PORT as LOG_PORT
from dstack.agent.session_log import LogReaders, OwnPort, SharedPort
from dstack.agent.session_place import NoPlace, docker_place, is_docker, open_network, process_place, write_place
from dstack.agent.session_sshd import (
    NoServer,
    contained_argv,
    plain_argv,
    sshd,
    write_accounts,
    write_config,
    write_host_key,
    write_keys,
)
from dstack.agent.wakeup import Wakeup

log = logging.getLogger("dstack.agent")

MAX_STRANGERS = 30  # connections of one task that have not shown a key yet
MAX_CONNECTIONS = 400
REST_S = 1.0
LEGAL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")


class Door:
    def __init__(self, task: Task, docker: DockerClient, program: List[str], connected: Wakeup, shared_log: SharedPort):
        self.task = task
        self.readers = LogReaders(task)
        self._shared_log = shared_log
        self._own_log: Optional[OwnPort] = None
        self._log_offered = False
        self._log_problem = ""
        self.port = 0
        self.user = ""
        self.host_key = ""
        self.keys: List[keys.PublicKey] = []
        self._docker = docker
        self._program = program
        self._connected = connected
        self.place: Dict[str, Any] = {}
        self._socket: Optional[socket.socket] = None
        self._listening = -1
        self._resting: Optional[asyncio.TimerHandle] = None

    async def open(self) -> None:
        """Raises NoServer, NoPlace, OSError, EngineError, EngineUnreachable."""
        sshd()
        task, directory = self.task, self.task.directory
        rooted = os.geteuid() == 0 and LINUX
        self.place = await docker_place(task, self._docker, rooted) if is_docker(task) else process_place(task)
        write_place(task, self.place)
        self.host_key = await aside(write_host_key, os.path.join(directory, "hostkey"))
        write_config(directory, [*self._program, directory])
        self.user = _own_name()
        if self.place.get("pid"):
            self.user = "root"
            report_user = task.report.user.partition(":")[0]
            names = (self.place["env"].get("USER", ""), report_user)
            write_accounts(directory, [name for name in names if LEGAL_NAME.match(name)])
            contained_argv(directory, 0, [])  # says what is missing on the machine
        self.connections = Connections(directory)
        self.set_keys(keys.usable(task.spec.authorized_keys if task.spec else []))
        self._socket = _listen(int(task.memo.get("session_port") or 0))
        self.port = self._socket.getsockname()[1]
        self._listening = self._socket.fileno()
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    async def offer_log(self) -> None:
        """Have the task's log at its port, as far as that can be had; idempotent."""
        if self._log_offered:
            return
        try:
            network = open_network(self.place) if self.place.get("pid") else -1
            try:
                if network < 0 or _is_machines(network):
                    await self._shared_log.add(self.readers, self.connections)
                else:
                    own = OwnPort(self.readers)
                    await own.open(network, LOG_PORT)
                    self._own_log = own
            finally:
                if network >= 0:
                    os.close(network)
            self._log_offered = True
        except (OSError, NoPlace) as e:
            if str(e) != self._log_problem:
                self._log_problem = str(e)
                log.info("task %s: its log is not at port %d of its loopback: %s", self.task.id, LOG_PORT, e)

    async def close(self) -> None:
        """Take no more connections; those that are there go on."""
        self._shared_log.remove(self.readers)
        if self._own_log is not None:
            self._own_log.close()
        self.readers.stop()
        if self._resting is not None:
            self._resting.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._socket.close()

    def set_keys(self, wanted: List[keys.PublicKey]) -> None:
        self.keys = wanted
        write_keys(self.task.directory, wanted)
        self.connections.end({key.fingerprint for key in wanted})

    def clean_up(self) -> None:
        for name in ("session.json", "authorized_keys", "hostkey", "hostkey.pub", "sshd.conf", "passwd", "shadow"):
            try:
                os.unlink(os.path.join(self.task.directory, name))
            except FileNotFoundError:
                pass  # the task may have been deleted meanwhile
        shutil.rmtree(os.path.join(self.task.directory, "sessions"), ignore_errors=True)

    def _accept(self) -> None:
        """Take what knocks. By hand: a cancelled `sock_accept` may, in old Pythons, let go of a number that is somebody
        else's by then."""
        assert self._socket is not None
        try:
            stream, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # gone again
        except OSError as e:
            log.error("task %s: no connection can be taken: %s", self.task.id, e)
            self._rest()  # no descriptors left: some are given back
            return
        with stream:
            if self.connections.strangers < MAX_STRANGERS and self.connections.count < MAX_CONNECTIONS:
                self._serve(stream)

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._resting = loop.call_later(REST_S, loop.add_reader, self._listening, self._accept)

    def _serve(self, stream: socket.socket) -> None:
        stream.setblocking(True)
        network = -1
        try:
            argv = plain_argv(self.task.directory)
            if self.place.get("pid"):
                network = open_network(self.place)
                argv = contained_argv(self.task.directory, network, self.place["files"])
            self.connections.begin(argv, stream, [network] if network >= 0 else [])
            self._connected.fire()
        except (OSError, NoPlace, NoServer) as e:
            log.error("task %s: a session cannot begin: %s", self.task.id, e)
        finally:
            if network >= 0:
                os.close(network)


def _is_machines(network: int) -> bool:
    theirs, ours = os.fstat(network), os.stat("/proc/self/ns/net")
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise NoServer("The agent's user has no name on this machine, so sshd would refuse to log in as it") from None


def _listen(port: int) -> socket.socket:
    """On loopback only, on the same port as before where that is free."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            listening.bind(("127.0.0.1", port))
        except OSError:
            listening.bind(("127.0.0.1", 0))
        listening.listen(64)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening
