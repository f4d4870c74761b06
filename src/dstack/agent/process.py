"""The process runtime: jobs as plain processes of the agent's user, each under a holder of its own. No isolation."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any, Dict, Optional

from dstack.agent import archives, mounts, processes
from dstack.agent.companion import Companion
from dstack.agent.daemon import OPEN_FILES_OF_JOBS
from dstack.agent.gpu_options import of_process
from dstack.agent.gpus import Gpus
from dstack.agent.machine import MACHINE_RESTARTED, Ending, Task, TaskFailed
from dstack.agent.process_job import (
    choose_cpus,
    command,
    expand,
    explain,
    home_folder,
    job_environment,
    refuse_what_needs_an_engine,
    signal_number,
    working_directory,
)
from dstack.agent.pythons import python_environment
from dstack.agent.runtime import Host, place_variables
from dstack.agent.store import write_atomic
from dstack.agentapi.wire import (
    CREATE_FAILED,
    CREATING,
    EXECUTOR_ERROR,
    HOST_REBOOTED,
    PROCESS,
    RUNNING,
    START_FAILED,
    TaskMetrics,
    TaskSpec,
)

ABANDON_PATIENCE_S = 15.0


class ProcessRuntime:
    name = PROCESS

    def __init__(
        self, state: str = "", gpus: Optional[Gpus] = None, abandon_patience_s: float = ABANDON_PATIENCE_S
    ) -> None:
        self._state = state
        self._gpus = gpus or Gpus()
        self._abandon_patience_s = abandon_patience_s
        self._holders: Dict[str, Companion] = {}

    async def launch(self, task: Task, host: Host) -> None:
        spec = _spec(task)
        if await self._was_started(task):
            return  # by an agent that died at once: `wait` takes it from here
        refuse_what_needs_an_engine(spec)
        if task.report.state != CREATING:
            task.move(CREATING)
            host.changed(task)
        home = spec.env.get("HOME") or spec.home_dir or home_folder()
        if spec.mounts:
            optional = [mount.target for mount in spec.mounts if mount.optional]
            mounts.link(task, mounts.prepare(spec.mounts, self._state), optional)
            host.changed(task)  # before the first use: whoever removes the task removes the links
        cwd = working_directory(spec, task.directory, home)
        await self._unpack(task, spec, cwd, home, host)
        env = job_environment(spec, home)
        if spec.python:
            env = await python_environment(spec.python, os.path.join(task.directory, "python"), env)
        if spec.mpi_hostfile:
            env["DSTACK_MPI_HOSTFILE"] = _path(task, "mpi_hostfile")
            write_atomic(env["DSTACK_MPI_HOSTFILE"], spec.mpi_hostfile.encode())
        env.update(of_process(await self._gpus.of(task.report.gpus), await self._gpus.facts()))
        env.update(place_variables(cwd, _repo_folder(spec, cwd, home)))
        env.update(spec.env)
        cpus = choose_cpus(spec.cpu_limit, host.running())
        task.memo["cpus"] = cpus
        task.report.working_dir = cwd
        task.report.user = env.get("USER", "")
        task.report.ip = "127.0.0.1"
        task.report.ports = {str(port): port for port in spec.ports}
        launch = {
            "argv": command(spec),
            "env": env,
            "cwd": cwd,
            "cpus": cpus,
            "open_files": OPEN_FILES_OF_JOBS,
            "memory_limit_bytes": spec.memory_limit_bytes,
            "log_quota_bytes_per_hour": spec.log_quota_bytes_per_hour,
        }
        try:
            self._holder(task).start("hold", launch)
        except OSError as e:
            raise TaskFailed(START_FAILED, "The job's holder cannot be started: %s" % e.strerror) from None

    async def wait(self, task: Task, host: Host) -> Ending:
        await self._holder(task).watch(lambda: self._look(task, host))
        self._reap(task)
        record = _record(task, "exit.json")
        if record is not None:
            code = record.get("exit_code")
            task.memo["cpu_us"] = record.get("cpu_us", 0)
            task.log_lost = int(record.get("log_lost") or 0)
            return Ending(
                code,
                record.get("reason", ""),
                record.get("message", "") or explain(code),
                record.get("finished_at"),
                failed=bool(record.get("reason")),
            )
        if task.boot_id != processes.boot_id():
            task.log_cut = MACHINE_RESTARTED
            raise TaskFailed(HOST_REBOOTED, "The machine was restarted while the job ran")
        await self.kill(task)
        task.log_cut = "the process that kept it was killed"
        trouble = self._holder(task).trouble
        raise TaskFailed(EXECUTOR_ERROR, "The process that held the job's terminal %s" % trouble)

    async def stop(self, task: Task, grace_s: float) -> None:
        self._order(task, signal_number(_spec(task).stop_signal), grace_s)

    async def kill(self, task: Task) -> None:
        if not self._order(task, 0, 0.0):
            _kill_strays(task)

    async def abandon(self, task: Task) -> None:
        deadline = time.monotonic() + self._abandon_patience_s
        while self._holder(task).alive() and time.monotonic() < deadline:
            self._order(task, 0, 0.0)
            await asyncio.sleep(0.02)  # a holder that is just starting has not opened its end yet
        self._reap(task)

    async def metrics(self, task: Task) -> TaskMetrics:
        holder = _record(task, "holder.json") or {}
        rows = processes.table()
        me = rows.get(holder.get("pid", 0))
        if me is None or me.start != holder.get("start"):
            raise TaskFailed(EXECUTOR_ERROR, "the job does not run")
        below = processes.descendants(rows, me.pid)
        memory = processes.memory_bytes(below)
        cpu_us = me.cpu_us + sum(row.cpu_us for row in below)
        return TaskMetrics(time.time(), cpu_us, memory, memory, await self._gpus.metrics(task.report.gpus))

    async def remove(self, task: Task) -> None:
        await self.abandon(task)
        if self._holder(task).alive():
            raise TaskFailed(EXECUTOR_ERROR, "the job's processes cannot be ended")
        mounts.unlink(task)

    async def _unpack(self, task: Task, spec: TaskSpec, cwd: str, home: str, host: Host) -> None:
        loop = asyncio.get_running_loop()
        for number, archive in enumerate(spec.archives):
            target = os.path.join(cwd, expand(archive.path, home))
            begun = _path(task, "unpacking-%d" % number)
            try:
                await loop.run_in_executor(
                    None, archives.put, host.blob(archive.sha256), target, archive.if_exists, begun
                )
            except OSError as e:
                raise TaskFailed(
                    CREATE_FAILED, "The code cannot be unpacked to %s: %s" % (target, e.strerror)
                ) from None

    def _holder(self, task: Task) -> Companion:
        return self._holders.setdefault(task.id, Companion(task.directory))

    async def _was_started(self, task: Task) -> bool:
        """Whether an earlier agent started the job. A holder that it left half-instructed ends by itself."""
        while _record(task, "holder.json") is None and _record(task, "exit.json") is None:
            if not self._holder(task).alive():
                return _record(task, "exit.json") is not None
            await asyncio.sleep(0.01)
        return True

    def _look(self, task: Task, host: Host) -> None:
        if task.report.state == CREATING or task.report.started_at is None:
            self._note_start(task, host)
        task.log_grew.fire()

    def _note_start(self, task: Task, host: Host) -> None:
        holder = _record(task, "holder.json")
        if holder and holder.get("job_pid"):
            task.report.started_at = holder.get("started_at")
            task.move(RUNNING)
            host.changed(task)
            if task.stop is not None:
                self._order(task, signal_number(_spec(task).stop_signal), task.stop.left_s)

    def _order(self, task: Task, number: int, grace_s: float) -> bool:
        """Tell the holder. False when it is not there, or not yet: then `_note_start` gives the order again."""
        return self._holder(task).order(b"%d %.3f" % (number, grace_s))

    def _reap(self, task: Task) -> None:
        if self._holder(task).reap():
            del self._holders[task.id]  # else asked again when the task is removed


def _repo_folder(spec: TaskSpec, cwd: str, home: str) -> str:
    """Where the repository is, "" without one."""
    found = [os.path.join(cwd, expand(archive.path, home)) for archive in spec.archives if archive.if_exists]
    return os.path.normpath(found[0]) if found else ""


def _spec(task: Task) -> TaskSpec:
    if task.spec is None:
        raise TaskFailed(EXECUTOR_ERROR, "the task was stopped before it was started")
    return task.spec


def _kill_strays(task: Task) -> None:
    """What the job left in its session when its holder died (a holder that lives does this itself, and better)."""
    holder = _record(task, "holder.json") or {}
    session = holder.get("job_pid", 0)
    if not session or holder.get("boot_id") != processes.boot_id():
        return
    leader = processes.find(session)
    if leader is not None and leader.start != holder.get("job_start"):
        return  # the number belongs to somebody else by now
    for row in processes.table().values():
        if row.session == session:
            try:
                os.kill(row.pid, signal.SIGKILL)
            except OSError:
                pass


def _record(task: Task, name: str) -> Optional[Dict[str, Any]]:
    try:
        with open(_path(task, name), "rb") as f:
            return json.loads(f.read().decode())
    except (OSError, ValueError):
        return None


def _path(task: Task, name: str) -> str:
    return os.path.join(task.directory, name)
