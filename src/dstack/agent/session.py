"""Doors of tasks: each running task with keys has a port on loopback behind which an sshd of its own answers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Dict, List, Optional, Set

from dstack.agent import keys
from dstack.agent.aside import aside
from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.docker_spec import resource_name
from dstack.agent.machine import Task
from dstack.agent.session_account import JumpAccount
from dstack.agent.session_door import Door
from dstack.agent.session_guard import Guard
from dstack.agent.session_log import PORT as LOG_PORT
from dstack.agent.session_log import SharedPort
from dstack.agent.session_notice import SAY, line, tell_log, tell_terminals
from dstack.agent.session_place import NoPlace, is_docker
from dstack.agent.session_sshd import (
    NoServer,
    prepare_machine,
)
from dstack.agent.tasks import Tasks
from dstack.agent.wakeup import Wakeup
from dstack.agentapi.wire import RUNNING, SESSION_PORT, STOPPING, StopRequest

log = logging.getLogger("dstack.agent")

FOLLOW_S = 60.0
LOOK_S = 1.0
KNOCKING_S = 0.1


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
            await aside(self._guard.ensure)
            self._guard_again = time.monotonic() + FOLLOW_S
        self._guarded = present

    async def apply_keys(self, task: Task) -> None:
        """Carry out the task's present keys now: who is in with one that is no more is put out."""
        async with self._turn:
            door = self._doors.get(task.id)
            if door is not None:
                door.set_keys(keys.usable(task.spec.authorized_keys if task.spec else []))
        await self._settle()

    async def tell(self, task: Task, message: str) -> None:
        """Say something on the terminals of those who are in, and in the task's log. What cannot be said is logged."""
        text, door = line(message), self._doors.get(task.id)
        if door is not None:
            await aside(tell_terminals, set(door.connections.pids), text)
        if task.report.state != RUNNING or await aside(tell_log, task.directory, door and door.place, text):
            return
        if is_docker(task):
            await self._tell_container(task, text)

    async def tell_stop(self, task: Task, stop: StopRequest) -> None:
        """Say to those who are in that it is about to be stopped; to be called before it is: many jobs end at once."""
        door = self._doors.get(task.id)
        if door is None or task.stop is not None:
            return
        why = stop.message or stop.reason.replace("_", " ")
        left = "; what still runs in %d s is killed" % round(stop.grace_s) if stop.grace_s >= 1 else ""
        text = line("The run is being stopped (%s)%s" % (why, left))
        await aside(tell_terminals, set(door.connections.pids), text)

    async def _tell_container(self, task: Task, text: str) -> None:
        try:
            path, body = "/containers/%s/exec" % resource_name(task.id), {"Cmd": [*SAY, text]}
            made = await self._docker.json("POST", path, body=body)
            await self._docker.json("POST", "/exec/%s/start" % made["Id"], body={"Detach": True})
        except (EngineError, EngineUnreachable) as e:
            log.info("task %s: nothing can be said in its log: %s", task.id, e)

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
            await aside(self._account.write, doors)
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


def _has_door(task: Task) -> bool:
    return task.report.state in (RUNNING, STOPPING) and task.spec is not None and bool(task.spec.authorized_keys)
