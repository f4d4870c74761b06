"""Doors between the nodes of one job: on each, an sshd at the host's own address that only the job's own key opens."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from typing import Any, Dict, List, Optional

from dstack.agent import keys
from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.machine import Task
from dstack.agent.session_connections import Connections
from dstack.agent.session_place import NoPlace, docker_place, is_docker, open_network
from dstack.agent.session_sshd import NoServer, contained_argv, write_accounts, write_config, write_keys
from dstack.agent.store import write_atomic
from dstack.agent.tasks import Tasks, cancel
from dstack.agentapi.wire import RUNNING, STOPPING, NodeSsh

log = logging.getLogger("dstack.agent")

FOLDER = "nodes"  # in the task's: what its sshd needs
MAX_CONNECTIONS = 400
FOLLOW_S = 60.0
AGAIN_S = 2.0  # while a door cannot be opened, for instance as its port is still another's
LOOK_S = 5.0


class NodeDoors:
    """`program` is the command that sshd starts, to which a folder with `session.json` is added."""

    def __init__(self, tasks: Tasks, docker: DockerClient, program: List[str]):
        self._tasks = tasks
        self._docker = docker
        self._program = program
        self._doors: Dict[str, NodeDoor] = {}
        self._said: Dict[str, str] = {}

    async def run(self) -> None:
        """Follow the tasks until cancelled; connections that are there go on without the agent."""
        try:
            while True:
                seq = self._tasks.seq
                closed = await self._settle()
                for door in self._doors.values():
                    door.connections.look()
                patience_s = AGAIN_S if closed else LOOK_S if self._doors else FOLLOW_S
                await self._tasks.events(self._tasks.run, seq, patience_s)
        finally:
            for door in self._doors.values():
                await door.close()

    async def _settle(self) -> bool:
        """Open and close doors until they are those of the tasks that run; True when one could not be opened."""
        wanted = {task.id: task for task in self._tasks.all() if _has_door(task)}
        for task_id in [known for known in self._doors if known not in wanted]:
            door = self._doors.pop(task_id)
            door.connections.end()
            await door.close()
        self._said = {task_id: said for task_id, said in self._said.items() if task_id in wanted}
        missing = [task for task_id, task in wanted.items() if task_id not in self._doors]
        return not all([await self._open(task) for task in missing if task.report.state == RUNNING])

    async def _open(self, task: Task) -> bool:
        assert task.spec is not None and task.spec.node_ssh is not None
        door = NodeDoor(task, task.spec.node_ssh, self._docker, self._program)
        try:
            await door.open()
        except NoPlace as e:
            log.info("task %s: no way in for its other nodes: %s", task.id, e)  # it may just have ended
            return False
        except (NoServer, EngineError, EngineUnreachable, OSError, keys.BadKey) as e:
            if self._said.get(task.id) != str(e):
                log.error("task %s: its other nodes cannot `ssh` into this one: %s", task.id, e)
            self._said[task.id] = str(e)
            return False
        self._doors[task.id] = door
        return True


class NodeDoor:
    """The way into one task for its other nodes."""

    def __init__(self, task: Task, ssh: NodeSsh, docker: DockerClient, program: List[str]):
        self._task = task
        self._ssh = ssh
        self._docker = docker
        self._program = program
        self._directory = os.path.join(task.directory, FOLDER)
        self._place: Dict[str, Any] = {}
        self._socket: Optional[socket.socket] = None
        self._accepting: Optional[asyncio.Task] = None

    async def open(self) -> None:
        """Raises NoServer, NoPlace, OSError, EngineError, EngineUnreachable."""
        self._place = await docker_place(self._task, self._docker, os.geteuid() == 0)
        if not self._place["pid"]:
            raise NoPlace("the agent is not root on the machine of the engine")
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        write_atomic(os.path.join(self._directory, "session.json"), json.dumps(self._place).encode())
        write_atomic(os.path.join(self._directory, "hostkey"), self._ssh.host_key.encode())
        write_config(self._directory, [*self._program, self._directory])
        write_keys(self._directory, keys.parse_all([self._ssh.public_key]))
        write_accounts(self._directory, [])
        contained_argv(self._directory, 0, [])  # says what is missing on the machine
        self.connections = Connections(self._directory)
        self._socket = _listen(self._ssh.address, self._ssh.port)
        self._accepting = asyncio.ensure_future(self._accept(self._socket))

    async def close(self) -> None:
        """Take no more connections; those that are there go on."""
        await cancel(self._accepting)
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                stream, _ = await loop.sock_accept(listening)
            except OSError as e:
                log.error("task %s: no connection of its nodes can be taken: %s", self._task.id, e)
                await asyncio.sleep(1.0)  # no descriptors left: some are given back
                continue
            with stream:
                self._serve(stream)

    def _serve(self, stream: socket.socket) -> None:
        self.connections.look()
        if self.connections.count >= MAX_CONNECTIONS:
            return
        stream.setblocking(True)
        network = -1
        try:
            network = open_network(self._place)
            argv = contained_argv(self._directory, network, self._place["files"])
            self.connections.begin(argv, stream, [network])
        except (OSError, NoPlace, NoServer) as e:
            log.error("task %s: a connection of its nodes cannot begin: %s", self._task.id, e)
        finally:
            if network >= 0:
                os.close(network)


def _has_door(task: Task) -> bool:
    spec, report = task.spec, task.report
    return spec is not None and spec.node_ssh is not None and is_docker(task) and report.state in (RUNNING, STOPPING)


def _listen(address: str, port: int) -> socket.socket:
    """At this address only. Raises OSError, which names it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(128)
    except OSError as e:
        listening.close()
        raise OSError(e.errno, "%s port %d: %s" % (address, port, e.strerror)) from None
    listening.setblocking(False)
    return listening
