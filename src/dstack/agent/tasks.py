"""The agent's tasks: takes requests, drives each task from start to end along the state machine, and tells changes."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any, Awaitable, Callable, Dict, List, Optional

from dstack.agent import processes
from dstack.agent.companion import Companion
from dstack.agent.leases import Leases
from dstack.agent.machine import Ending, Task, TaskFailed, new_task, stored_task, tombstone
from dstack.agent.runtime import Runtime
from dstack.agent.store import DiskFull, Store, remove_tree
from dstack.agent.wakeup import Wakeup
from dstack.agentapi.wire import (
    CREATE_FAILED,
    EXECUTOR_ERROR,
    PENDING,
    PULLING,
    EventsPage,
    HostHealth,
    StopRequest,
    TaskReport,
    TaskSpec,
    to_json,
)

log = logging.getLogger("dstack.agent")

KILL_AGAIN_S = 5.0
SAVE_AGAIN_S = 2.0
CANCEL_AGAIN_S = 1.0
HOLDER_KILLS, KEEPER_ENDS = b"0 0", b"end"  # orders that the other does not know, and leaves alone
TOMBSTONE_KEPT_S = 7 * 24 * 3600.0

# Gives the runtime for a spec's `runtime` (docker | process | auto). Raises TaskFailed when it cannot be had.
ChooseRuntime = Callable[[str], Awaitable[Runtime]]


class NotEnded(Exception):
    """The task cannot be deleted yet."""


class UnknownTask(Exception):
    """No task of that name."""


class Tasks:
    def __init__(self, store: Store, choose_runtime: ChooseRuntime, run: str, leases: Leases):
        self.run = run
        self.seq = 0
        self.unsaved: Dict[str, Task] = {}  # their states are in memory only: the disk is full
        self._store = store
        self._choose_runtime = choose_runtime
        self._leases = leases
        self._health: Optional[HostHealth] = None
        self._health_seq = 0
        self._tasks: Dict[str, Task] = {}
        self._drivers: Dict[str, asyncio.Task] = {}
        self._keepers: List[asyncio.Task] = []
        self._changed = Wakeup()
        self._boot_id = processes.boot_id()

    # What the protocol asks for.

    def adopt(self) -> None:
        """Take over what is on disk; called once, before the first request."""
        for directory, spec, state in self._store.load():
            try:
                task = stored_task(directory, spec, state or {})
            except (ValueError, KeyError, TypeError) as e:
                log.error("task %s: its files make no sense (%s); it is set aside", os.path.basename(directory), e)
                self._set_aside(directory)
                continue
            if task.spec is None and time.time() - (task.report.finished_at or 0) > TOMBSTONE_KEPT_S:
                remove_tree(directory)
                continue
            self._tasks[task.id] = task
            self._tell(task)
            if not task.ended:
                self._drive(task)

    def _set_aside(self, directory: str) -> None:
        """Nobody will know the task any more: what was started for it must not go on."""
        companion = Companion(directory)
        for order in (HOLDER_KILLS, KEEPER_ENDS):
            companion.order(order)
        try:
            self._store.set_aside(directory)
        except OSError as e:
            log.error("%s cannot be moved: %s", directory, e)

    def put(self, spec: TaskSpec) -> TaskReport:
        """Start a task; one that is known already answers its present state. Raises DiskFull."""
        known = self._tasks.get(spec.id)
        if known is not None:
            return self.report(known)
        if not self._save_unsaved():
            raise DiskFull("no space left on the disk of the agent's state: no new tasks are taken")
        task = new_task(spec, self._store.directory(spec.id), self._boot_id)
        if spec.registry_auth is not None:
            task.memo["had_registry_auth"] = True
        self._store.create(task.id, _stored(spec), task.to_state())
        self._tasks[task.id] = task
        self._tell(task)
        self._drive(task)
        return self.report(task)

    def stop(self, task_id: str, request: StopRequest) -> TaskReport:
        """Order the end of a task. Raises DiskFull when the tombstone of an unknown one cannot be written."""
        task = self._tasks.get(task_id)
        if task is None:
            directory = self._store.directory(task_id)
            task = tombstone(task_id, directory, request.reason, request.message, self._boot_id)
            self._store.create(task_id, None, task.to_state())
            self._tasks[task_id] = task
            self._tell(task)
        elif not task.ended:
            task.order_stop(request.grace_s, request.reason, request.message)
            self.changed(task)
        return self.report(task)

    def set_keys(self, task_id: str, keys: List[str]) -> Task:
        """Store who may have sessions in the task. Raises DiskFull, UnknownTask."""
        task = self.find(task_id)
        if task.spec is not None and task.spec.authorized_keys != keys:
            before, task.spec.authorized_keys = task.spec.authorized_keys, list(keys)
            try:
                self._store.save_spec(task_id, _stored(task.spec))
            except BaseException:
                task.spec.authorized_keys = before
                raise
        return task

    async def delete(self, task_id: str, log_offset: int, force: bool) -> None:
        """Forget an ended task whose log was read to `log_offset`. Idempotent. Raises NotEnded."""
        task = self._tasks.get(task_id)
        if task is None:
            return
        if not task.ended:
            raise NotEnded("the task has not ended: it is %s" % task.report.state)
        if log_offset < task.log_size and not force:
            raise NotEnded("the log ends at %d, it was read to %d" % (task.log_size, log_offset))
        try:
            await self._remove_outside(task)
        except TaskFailed:
            if not force:
                raise
        if self._tasks.get(task_id) is not task:
            return  # another request was quicker, and the name may be that of a new task by now
        self.unsaved.pop(task_id, None)
        self._tasks.pop(task_id, None)
        trash = self._store.discard(task_id)
        await asyncio.get_running_loop().run_in_executor(None, remove_tree, trash)

    def find(self, task_id: str) -> Task:
        try:
            return self._tasks[task_id]
        except KeyError:
            raise UnknownTask("there is no task %s" % task_id) from None

    def all(self) -> List[Task]:
        return list(self._tasks.values())

    def report(self, task: Task) -> TaskReport:
        task.report.log_size = task.log_size
        return task.report

    async def events(self, run: str, after: int, wait_s: float) -> EventsPage:
        """Tasks that changed since `after`; waits for a change when there is none, at most `wait_s`."""
        if run != self.run:
            return EventsPage(self.run, self.seq, [self.report(t) for t in self.all()], self._health)
        deadline = time.monotonic() + wait_s
        while self.seq <= after:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not await self._changed.wait(remaining):
                break
        changed = [t for t in self._tasks.values() if t.report.seq > after]
        health = self._health if self._health_seq > after else None
        reports = [self.report(t) for t in sorted(changed, key=lambda t: t.report.seq)]
        return EventsPage(self.run, self.seq, reports, health)

    def tell_health(self, health: HostHealth) -> None:
        """Tell those who wait for changes."""
        self.seq += 1
        self._health, self._health_seq = health, self.seq
        self._changed.fire()

    async def metrics(self, task: Task):
        runtime = await self._choose_runtime(task.report.runtime)
        return await runtime.metrics(task)

    async def close(self) -> None:
        """Let go of all tasks; they go on without the agent."""
        owned = [*self._drivers.values(), *self._keepers]
        for each in owned:
            each.cancel()
        await asyncio.gather(*owned, return_exceptions=True)

    # What runtimes ask for (see `runtime.Host`).

    def changed(self, task: Task) -> None:
        try:
            self._store.save(task.id, task.to_state())
            self.unsaved.pop(task.id, None)
        except FileNotFoundError:
            log.error("task %s: somebody has removed its folder", task.id)  # which no waiting brings back
        except (DiskFull, OSError) as e:
            log.error("task %s: its state cannot be written: %s", task.id, e)
            if not self.unsaved:
                self._keepers = [k for k in self._keepers if not k.done()]
                self._keepers.append(asyncio.ensure_future(self._save_again()))
            self.unsaved[task.id] = task
        self._tell(task)

    def progressed(self, task: Task) -> None:
        self._tell(task)

    def blob(self, sha256: str) -> str:
        if not self._store.has_blob(sha256):
            raise TaskFailed(CREATE_FAILED, "The code archive %s was not sent to this machine" % sha256[:12])
        self._store.touch_blob(sha256)
        return self._store.blob(sha256)

    def running(self) -> List[Task]:
        return [t for t in self._tasks.values() if not t.ended]

    # Driving.

    def _drive(self, task: Task) -> None:
        driver = asyncio.ensure_future(self._drive_to_end(task))
        self._drivers[task.id] = driver
        driver.add_done_callback(lambda _: self._drivers.pop(task.id, None))

    async def _drive_to_end(self, task: Task) -> None:
        try:
            ending = await self._start_and_follow(task)
        except TaskFailed as e:
            ending = Ending(reason=e.reason, message=e.message, failed=True)
        except asyncio.CancelledError:
            raise  # the agent goes, the task stays
        except Exception as e:  # whatever it was: the task must not hang for ever, and the agent must not fall
            log.exception("task %s", task.id)
            ending = Ending(
                reason=EXECUTOR_ERROR, message="The agent failed: %s" % (e or type(e).__name__), failed=True
            )
        task.end(ending)
        self.changed(task)

    async def _start_and_follow(self, task: Task) -> Ending:
        spec = task.spec
        if spec is None:
            raise TaskFailed(EXECUTOR_ERROR, "The task's description is missing on disk")
        if task.stop is not None and not task.report.runtime:
            return Ending(failed=True)
        runtime = await self._choose_runtime(task.report.runtime or spec.runtime)
        task.report.runtime = runtime.name
        try:
            if self._is_to_be_launched(task):
                await self._leases.take(task, self.all, self.changed)
                if not await self._launch(task, runtime):
                    return Ending(failed=True)
                task.memo["launched"] = True
                self.changed(task)
            return await self._follow(task, runtime)
        except Exception:  # whatever it was: what is told as failed must not go on running
            await self._quietly(task, runtime.abandon(task))
            raise

    def _is_to_be_launched(self, task: Task) -> bool:
        """Not what may have been started before the machine was restarted: a job is started once."""
        if "launched" in task.memo:
            return False
        if task.boot_id != self._boot_id and task.report.state in (PENDING, PULLING):
            task.boot_id = self._boot_id
            self.changed(task)
        return task.boot_id == self._boot_id or task.stop is not None

    async def _launch(self, task: Task, runtime: Runtime) -> bool:
        """False when a stop came first; the task is then undone."""
        if task.stop is None:
            launch = asyncio.ensure_future(runtime.launch(task, self))
            ordered = asyncio.ensure_future(task.stop_ordered.wait(float(10**8)))
            try:
                await asyncio.wait([launch, ordered], return_when=asyncio.FIRST_COMPLETED)
                if launch.done():
                    launch.result()
                    return True
            finally:
                await cancel(launch, ordered)
        await runtime.abandon(task)
        return False

    async def _follow(self, task: Task, runtime: Runtime) -> Ending:
        """Wait for the end; carry out stop orders meanwhile."""
        waiting = asyncio.ensure_future(runtime.wait(task, self))
        stopping = asyncio.ensure_future(self._carry_out_stop(task, runtime))
        try:
            await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                stopping.result()
            return await waiting
        finally:
            await cancel(waiting, stopping)

    async def _carry_out_stop(self, task: Task, runtime: Runtime) -> None:
        while task.stop is None:
            await task.stop_ordered.wait(3600.0)
        if task.stop.left_s:
            await runtime.stop(task, task.stop.left_s)
        while True:
            left_s = task.stop.left_s
            if not left_s:
                await runtime.kill(task)
                left_s = KILL_AGAIN_S
            await task.stop_ordered.wait(left_s)

    async def _quietly(self, task: Task, cleaning: Awaitable[None]) -> None:
        try:
            await cleaning
        except Exception:  # the reason why it is cleaned up matters more
            log.exception("task %s: cleaning up", task.id)

    async def _remove_outside(self, task: Task) -> None:
        if task.report.runtime:
            runtime = await self._choose_runtime(task.report.runtime)
            await runtime.remove(task)

    async def _save_again(self) -> None:
        while self.unsaved:
            await asyncio.sleep(SAVE_AGAIN_S)
            self._save_unsaved()

    def _save_unsaved(self) -> bool:
        """True when everything is on disk."""
        for task in list(self.unsaved.values()):
            try:
                self._store.save(task.id, task.to_state())
                self.unsaved.pop(task.id, None)
            except FileNotFoundError:
                self.unsaved.pop(task.id, None)
            except (DiskFull, OSError):
                return False
        return True

    def _tell(self, task: Task) -> None:
        self.seq += 1
        task.report.seq = self.seq
        self._changed.fire()


def _stored(spec: TaskSpec) -> Dict[str, Any]:
    """A description as it goes on disk: the registry's password is kept in memory only."""
    return {**to_json(spec), "registry_auth": None}


async def cancel(*futures: Optional[asyncio.Future]) -> None:
    """Cancel and wait, so that nothing goes on behind the caller's back.

    Again and again: up to Python 3.11 `wait_for` loses a cancellation that comes together with its result.
    """
    pending = {f for f in futures if f is not None}
    while pending:
        for future in pending:
            future.cancel()
        done, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
        for future in done:
            if not future.cancelled():
                future.exception()  # looked at, so that nobody complains
