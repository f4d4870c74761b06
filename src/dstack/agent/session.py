"""Doors of tasks: each running task with keys has a port on loopback behind which an sshd of its own answers."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import re
import shutil
import socket
import time
from typing import Any, Dict, List, Optional, Set

from dstack.agent import keys
from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.machine import Task
from dstack.agent.processes import LINUX
from dstack.agent.session_account import JumpAccount
from dstack.agent.session_connections import Connections
from dstack.agent.session_guard import Guard
from dstack.agent.session_log import PORT as LOG_PORT
from dstack.agent.session_log import LogReaders, OwnPort, SharedPort
from dstack.agent.session_place import NoPlace, docker_place, is_docker, open_network, process_place, write_place
from dstack.agent.session_sshd import (
    NoServer,
    contained_argv,
    plain_argv,
    prepare_machine,
    sshd,
    write_accounts,
    write_config,
    write_host_key,
    write_keys,
)
from dstack.agent.tasks import Tasks
from dstack.agent.wakeup import Wakeup
from dstack.agentapi.wire import RUNNING, SESSION_PORT, STOPPING

log = logging.getLogger("dstack.agent")

MAX_STRANGERS = 30  # connections of one task that have not shown a key yet
MAX_CONNECTIONS = 400
FOLLOW_S = 60.0
LOOK_S = 1.0
KNOCKING_S = 0.1
REST_S = 1.0
LEGAL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")


class Sessions:
    """`program` is the command that sshd starts, to which the task's folder is added."""

    def __init__(
        self,
        tasks: Tasks,
        docker: DockerClient,
        program: List[str],
        account: Optional[JumpAccount] = None,
        guard: Optional[Guard] = None,
        log_port: int = LOG_PORT,
    ):
        self._tasks = tasks
        self._docker = docker
        self._program = program
        self._account = account
        self._guard = guard
        self._shared_log = SharedPort(log_port)
        self._doors: Dict[str, Door] = {}
        self._closing: Set["asyncio.Future[None]"] = set()
        self._turn = asyncio.Lock()
        self._connected = Wakeup()
        self._guarded: Set[str] = set()
        self._guard_again = 0.0

    async def run(self) -> None:
        """Follow the tasks until cancelled; people's sessions go on without the agent."""
        prepare_machine()
        looking = asyncio.ensure_future(self._look())
        seq = -1
        try:
            while True:
                seq = self._tasks.seq
                await self._keep_guard()
                await self._settle()
                await self._tasks.events(self._tasks.run, seq, FOLLOW_S)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            for door in self._doors.values():
                await door.close()
            self._shared_log.close()
            for closing in self._closing:
                closing.cancel()
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _keep_guard(self) -> None:
        """Before each task that comes, and now and then: other programs rewrite the packet filter's rules."""
        present = {task.id for task in self._tasks.all()}
        if self._guard is not None and (present - self._guarded or time.monotonic() > self._guard_again):
            await _aside(self._guard.ensure)
            self._guard_again = time.monotonic() + FOLLOW_S
        self._guarded = present

    async def apply_keys(self, task: Task) -> None:
        """Carry out the task's present keys now: who is in with one that is no more is put out."""
        async with self._turn:
            door = self._doors.get(task.id)
            if door is not None:
                door.set_keys(keys.usable(task.spec.authorized_keys if task.spec else []))
        await self._settle()

    async def _settle(self) -> None:
        """Open and close doors until they are those of the tasks that run now."""
        async with self._turn:
            wanted = {task.id: task for task in self._tasks.all() if _has_door(task)}
            for task_id in [known for known in self._doors if known not in wanted]:
                closing = asyncio.ensure_future(self._shut(self._doors.pop(task_id)))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            for task_id, task in wanted.items():
                if task_id not in self._doors and task.report.state == RUNNING:
                    await self._open(task)
            for door in self._doors.values():
                await door.offer_log()
            await self._tell_account()

    async def _open(self, task: Task) -> None:
        door = Door(task, self._docker, self._program, self._connected, self._shared_log)
        problem = before = task.report.session_message
        try:
            await door.open()
            problem = ""
            self._doors[task.id] = door
            task.report.ports[SESSION_PORT] = door.port
            task.report.session_user = door.user
            task.report.session_host_key = door.host_key
            task.memo["session_port"] = door.port
            self._count(door)
        except (NoServer, NoPlace) as e:
            problem = str(e)
        except (EngineError, EngineUnreachable, OSError, ValueError) as e:
            problem = "Nobody can `ssh` into the run: %s" % e
        if problem and problem == before:
            return  # tried again at the next change
        if problem:
            log.error("task %s: %s", task.id, problem)
        task.report.session_message = problem
        self._tasks.changed(task)

    async def _shut(self, door: Door) -> None:
        await door.readers.finish()
        door.connections.end()
        await door.close()
        door.task.report.ports.pop(SESSION_PORT, None)
        door.task.report.sessions = 0
        door.clean_up()
        self._tasks.progressed(door.task)

    async def _tell_account(self) -> None:
        if self._account is None:
            return
        doors = [(door.port, [key.line for key in door.keys]) for door in self._doors.values()]
        try:
            await _aside(self._account.write, doors)
        except OSError as e:
            log.error("the keys of the account %s cannot be written: %s", self._account.name, e)

    async def _look(self) -> None:
        """See who comes and goes, while somebody does."""
        while True:
            knocking = any(door.connections.strangers for door in self._doors.values())
            if any(door.connections.count for door in self._doors.values()):
                await self._connected.wait(KNOCKING_S if knocking else LOOK_S)
            else:
                await self._connected.wait(FOLLOW_S)
            for door in list(self._doors.values()):
                door.connections.look()
                if self._count(door):
                    self._tasks.progressed(door.task)

    def _count(self, door: Door) -> bool:
        """Put into the report who is in; True when that has changed. It is told, not stored: it is no task's state."""
        report, entered = door.task.report, door.connections.entered
        since = None if entered else max(door.connections.last_end, report.started_at or 0.0)
        if (report.sessions, report.inactive_since) == (entered, since):
            return False
        report.sessions, report.inactive_since = entered, since
        return True


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
        self._place: Dict[str, Any] = {}
        self._socket: Optional[socket.socket] = None
        self._listening = -1
        self._resting: Optional[asyncio.TimerHandle] = None

    async def open(self) -> None:
        """Raises NoServer, NoPlace, OSError, EngineError, EngineUnreachable."""
        sshd()
        task, directory = self.task, self.task.directory
        rooted = os.geteuid() == 0 and LINUX
        self._place = await docker_place(task, self._docker, rooted) if is_docker(task) else process_place(task)
        write_place(task, self._place)
        self.host_key = await _aside(write_host_key, os.path.join(directory, "hostkey"))
        write_config(directory, [*self._program, directory])
        self.user = _own_name()
        if self._place.get("pid"):
            self.user = "root"
            report_user = task.report.user.partition(":")[0]
            names = (self._place["env"].get("USER", ""), report_user)
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
            network = open_network(self._place) if self._place.get("pid") else -1
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
            if self._place.get("pid"):
                network = open_network(self._place)
                argv = contained_argv(self.task.directory, network, self._place["files"])
            self.connections.begin(argv, stream, [network] if network >= 0 else [])
            self._connected.fire()
        except (OSError, NoPlace, NoServer) as e:
            log.error("task %s: a session cannot begin: %s", self.task.id, e)
        finally:
            if network >= 0:
                os.close(network)


def _has_door(task: Task) -> bool:
    return task.report.state in (RUNNING, STOPPING) and task.spec is not None and bool(task.spec.authorized_keys)


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


async def _aside(function, *arguments):
    """Run what waits for a program or a disk beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
