"""The process runtime: jobs as plain processes of the agent's user, each under a holder of its own. No isolation."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

from dstack.agent import archives, mounts, processes
from dstack.agent.gpu_options import of_process
from dstack.agent.gpus import Gpus
from dstack.agent.machine import Ending, Task, TaskFailed
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
REAP_PATIENCE_S = 1.0


class ProcessRuntime:
    name = PROCESS

    def __init__(
        self, state: str = "", gpus: Optional[Gpus] = None, abandon_patience_s: float = ABANDON_PATIENCE_S
    ) -> None:
        self._state = state
        self._gpus = gpus or Gpus()
        self._abandon_patience_s = abandon_patience_s
        self._started: Dict[str, subprocess.Popen] = {}

    async def launch(self, task: Task, host: Host) -> None:
        spec = _spec(task)
        if await _was_started(task):
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
        await self._unpack(spec, cwd, home, host)
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
            "memory_limit_bytes": spec.memory_limit_bytes,
            "log_quota_bytes_per_hour": spec.log_quota_bytes_per_hour,
        }
        self._spawn(task, launch)

    async def wait(self, task: Task, host: Host) -> Ending:
        await self._until_holder_ends(task, host)
        self._reap(task)
        record = _record(task, "exit.json")
        if record is not None:
            code = record.get("exit_code")
            task.memo["cpu_us"] = record.get("cpu_us", 0)
            return Ending(
                code,
                record.get("reason", ""),
                record.get("message", "") or explain(code),
                record.get("finished_at"),
                failed=bool(record.get("reason")),
            )
        if task.boot_id != processes.boot_id():
            raise TaskFailed(HOST_REBOOTED, "The machine was restarted while the job ran")
        await self.kill(task)
        trouble = _last_line(_path(task, "holder.err"))
        what = "failed: %s" % trouble if trouble else "was killed"
        raise TaskFailed(EXECUTOR_ERROR, "The process that held the job's terminal %s" % what)

    async def stop(self, task: Task, grace_s: float) -> None:
        self._order(task, signal_number(_spec(task).stop_signal), grace_s)

    async def kill(self, task: Task) -> None:
        if not self._order(task, 0, 0.0):
            _kill_strays(task)

    async def abandon(self, task: Task) -> None:
        deadline = time.monotonic() + self._abandon_patience_s
        while _holder_alive(task) and time.monotonic() < deadline:
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
        if _holder_alive(task):
            raise TaskFailed(EXECUTOR_ERROR, "the job's processes cannot be ended")
        mounts.unlink(task)

    async def _unpack(self, spec: TaskSpec, cwd: str, home: str, host: Host) -> None:
        loop = asyncio.get_running_loop()
        for archive in spec.archives:
            target = os.path.join(cwd, expand(archive.path, home))
            try:
                await loop.run_in_executor(None, archives.put, host.blob(archive.sha256), target, archive.if_exists)
            except OSError as e:
                raise TaskFailed(
                    CREATE_FAILED, "The code cannot be unpacked to %s: %s" % (target, e.strerror)
                ) from None

    def _spawn(self, task: Task, launch: Dict[str, Any]) -> None:
        """Start the holder. It is told apart from one that never started by the FIFO whose other end it inherits."""
        for name in ("wake", "control"):
            try:
                os.mkfifo(_path(task, name), 0o600)
            except FileExistsError:
                pass
        reading = os.open(_path(task, "wake"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        writing = os.open(_path(task, "wake"), os.O_WRONLY | os.O_CLOEXEC)
        try:
            holder = subprocess.Popen(
                [sys.executable, "-IS", *_this_program(), "hold", task.directory, str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=_trouble_file(task),
                pass_fds=[writing],
                start_new_session=True,
            )
        except OSError as e:
            raise TaskFailed(START_FAILED, "The job's holder cannot be started: %s" % e.strerror) from None
        finally:
            os.close(writing)
            os.close(reading)
        self._started[task.id] = holder
        stdin = holder.stdin
        if stdin is not None:
            try:
                stdin.write(json.dumps(launch).encode())  # through a pipe: secrets are in nobody's argv and in no file
                stdin.close()
            except BrokenPipeError:
                pass  # it died at once; `wait` says so

    async def _until_holder_ends(self, task: Task, host: Host) -> None:
        try:
            fd = os.open(_path(task, "wake"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def look() -> None:
            alive = _drain(fd)
            if task.report.state == CREATING or task.report.started_at is None:
                self._note_start(task, host)
            task.log_grew.fire()
            if not alive and not ended.done():
                loop.remove_reader(fd)
                ended.set_result(None)

        try:
            look()
            if not ended.done():
                loop.add_reader(fd, look)
                await ended
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def _note_start(self, task: Task, host: Host) -> None:
        holder = _record(task, "holder.json")
        if holder and holder.get("job_pid"):
            task.report.started_at = holder.get("started_at")
            task.move(RUNNING)
            host.changed(task)
            if task.stop is not None:
                grace_s = max(0.0, task.stop.kill_at - time.time())
                self._order(task, signal_number(_spec(task).stop_signal), grace_s)

    def _order(self, task: Task, number: int, grace_s: float) -> bool:
        """Tell the holder. False when it is not there, or not yet: then `_note_start` gives the order again."""
        try:
            fd = os.open(_path(task, "control"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            if e.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            return False
        try:
            os.write(fd, b"%d %.3f\n" % (number, grace_s))
        except OSError:
            pass  # a full FIFO holds orders enough
        finally:
            os.close(fd)
        return True

    def _reap(self, task: Task) -> None:
        """Take the exit status of a holder that ended. One that cannot be ended must not hold up the agent."""
        holder = self._started.get(task.id)
        if holder is None:
            return
        try:
            holder.wait(REAP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return  # asked again when the task is removed
        del self._started[task.id]


def _repo_folder(spec: TaskSpec, cwd: str, home: str) -> str:
    """Where the repository is, "" without one."""
    found = [os.path.join(cwd, expand(archive.path, home)) for archive in spec.archives if archive.if_exists]
    return os.path.normpath(found[0]) if found else ""


def _spec(task: Task) -> TaskSpec:
    if task.spec is None:
        raise TaskFailed(EXECUTOR_ERROR, "the task was stopped before it was started")
    return task.spec


def _this_program() -> List[str]:
    """How to start this agent's code again: the zipapp, or the package in a source tree."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.isfile(here):
        return [here]
    return ["-c", "import sys; sys.path.insert(0, %r); from dstack.agent.__main__ import main; main()" % here]


def _trouble_file(task: Task) -> int:
    return os.open(_path(task, "holder.err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


async def _was_started(task: Task) -> bool:
    """Whether an earlier agent started the job. A holder that it left half-instructed ends by itself."""
    while _record(task, "holder.json") is None and _record(task, "exit.json") is None:
        if not _holder_alive(task):
            return _record(task, "exit.json") is not None
        await asyncio.sleep(0.01)
    return True


def _holder_alive(task: Task) -> bool:
    try:
        fd = os.open(_path(task, "wake"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return bool(os.read(fd, 1) != b"")
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def _drain(fd: int) -> bool:
    """Empty the FIFO; False when nobody has its other end any more."""
    while True:
        try:
            if not os.read(fd, 65536):
                return False
        except BlockingIOError:
            return True


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


def _last_line(path: str) -> str:
    try:
        with open(path, "rb") as f:
            lines = f.read(65536).decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _path(task: Task, name: str) -> str:
    return os.path.join(task.directory, name)
