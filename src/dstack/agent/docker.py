"""The docker runtime: each task a container on a network of its own, found again by its name."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any, Dict, Optional

from dstack.agent import processes
from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable
from dstack.agent.docker_end import Output, ending_of
from dstack.agent.docker_keeping import Keeping
from dstack.agent.docker_logs import instant
from dstack.agent.docker_networks import Networks
from dstack.agent.docker_orders import Orders
from dstack.agent.docker_output import StreamOutput
from dstack.agent.docker_spec import AGENT_LABEL, TASK_LABEL, agent_label, resource_name
from dstack.agent.docker_start import Start, remove_container
from dstack.agent.gpus import Gpus
from dstack.agent.machine import Ending, Task, TaskFailed
from dstack.agent.process_job import signal_number
from dstack.agent.runtime import Host
from dstack.agentapi.wire import (
    CONTAINER_REMOVED,
    DOCKER,
    EXECUTOR_ERROR,
    RUNNING,
    TaskMetrics,
    TaskSpec,
)

Facts = Dict[str, Any]  # an engine's answer

ENGINE_AGAIN_S = (0.2, 2.0)  # between tries while the engine is away: from, to
KILL_AGAIN_S = 5.0
KILLED = (129, 130, 137, 143)
UNKNOWN = 255  # what the engine says of a container whose end nobody saw
ELSEWHERE_S = 15.0  # an engine that stops its containers gives them 10 s, then it goes itself
GONE = (404, 409)  # not there, or not running, or just being removed: what was wanted is so


class DockerRuntime:
    name = DOCKER

    def __init__(self, client: DockerClient, state: str, gpus: Gpus):
        self._docker = client
        self._state = state
        self._gpus = gpus
        self._keepings: Dict[str, Keeping] = {}
        self._orders = Orders()  # containers, by task
        self._networks = Networks(client, state)

    async def launch(self, task: Task, host: Host) -> None:
        spec = _spec(task)
        try:
            facts = await self._container(task)
            if facts is None or facts["State"]["Status"] == "created":
                if facts is not None:  # left half-made by an agent that died: nobody knows how far it came
                    await remove_container(self._docker, task)
                start = Start(self._docker, self._orders, self._state, self._gpus, self._keeping(task), self._networks)
                await start.run(task, spec, host)
            facts = await self._container(task)
        except EngineUnreachable as e:
            raise TaskFailed(EXECUTOR_ERROR, str(e)) from None
        if facts is None:
            raise TaskFailed(CONTAINER_REMOVED, "The container was removed just after its start")
        self._note_start(task, spec, facts, host)

    async def wait(self, task: Task, host: Host) -> Ending:
        output: Output = self._keeping(task)
        if not output.is_needed:
            output = StreamOutput(self._docker, task, _spec(task).log_quota_bytes_per_hour)
        copying = asyncio.ensure_future(output.copy())
        ended = asyncio.ensure_future(self._until_end(task))
        limiting = asyncio.ensure_future(self._kill_when_exceeded(task, output))
        try:
            await asyncio.wait([copying, ended], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                copying.result()  # raises what went wrong; otherwise the log came to an end before the container
            facts, engine_was_away = await ended
            output.no_more()
            await copying
        finally:
            for each in (copying, ended, limiting):
                each.cancel()
            await asyncio.gather(copying, ended, limiting, return_exceptions=True)
        return ending_of(task, facts, engine_was_away, output)

    async def stop(self, task: Task, grace_s: float) -> None:
        number = signal_number(_spec(task).stop_signal)
        try:
            if not await self._signal_all(task, number):
                path = "/containers/%s/kill" % resource_name(task.id)
                await self._docker.json("POST", path, {"signal": str(number)})
        except EngineError as e:
            if e.status not in GONE:
                raise TaskFailed(EXECUTOR_ERROR, "The container cannot be stopped: %s" % e.message) from None
        except EngineUnreachable:
            pass  # the kill at the end of the grace is tried again and again

    async def kill(self, task: Task) -> None:
        task.memo["killed"] = True
        try:
            await self._docker.json("POST", "/containers/%s/kill" % resource_name(task.id))
        except (EngineError, EngineUnreachable):
            pass  # it has ended, or the engine is away: tried again

    async def abandon(self, task: Task) -> None:
        await self._orders.over(task.id)
        await remove_container(self._docker, task)
        await self._networks.remove_of(task.id)
        await self._keeping(task).finish()
        self._keepings.pop(task.id, None)

    async def metrics(self, task: Task) -> TaskMetrics:
        path = "/containers/%s/stats" % resource_name(task.id)
        try:
            stats = await self._docker.json("GET", path, {"stream": "false", "one-shot": "true"})
        except (EngineError, EngineUnreachable) as e:
            raise TaskFailed(EXECUTOR_ERROR, "the container's use cannot be measured: %s" % e) from None
        memory = stats.get("memory_stats") or {}
        used = int(memory.get("usage") or 0)
        details = memory.get("stats") or {}
        cache = int(details.get("total_inactive_file") or details.get("inactive_file") or 0)
        cpu_us = int(((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage") or 0) // 1000
        gpus = await self._gpus.metrics(task.report.gpus)
        return TaskMetrics(time.time(), cpu_us, used, max(0, used - cache), gpus)

    async def remove(self, task: Task) -> None:
        try:
            await self.abandon(task)
        except (EngineError, EngineUnreachable) as e:
            raise TaskFailed(EXECUTOR_ERROR, "the container cannot be removed: %s" % e) from None

    async def remove_orphans(self, known: Any) -> None:
        """Remove containers and networks of this agent whose task is in no `known()` any more."""
        query = {"all": "true", "filters": '{"label": ["%s=%s"]}' % (AGENT_LABEL, agent_label(self._state))}
        for container in await self._docker.json("GET", "/containers/json", query) or []:
            if (container.get("Labels") or {}).get(TASK_LABEL) not in known():
                await self._docker.json("DELETE", "/containers/" + container["Id"], {"force": "true", "v": "true"})
        for network, task_id in (await self._networks.of_ours()).items():
            if task_id not in known():
                await self._networks.remove(network)

    def _note_start(self, task: Task, spec: TaskSpec, facts: Facts, host: Host) -> None:
        report = task.report
        task.memo["container"] = facts["Id"]
        task.memo["log_path"] = facts.get("LogPath") or ""
        report.started_at = instant(facts["State"].get("StartedAt") or "") or time.time()
        settings = facts.get("NetworkSettings") or {}
        attached = (settings.get("Networks") or {}).get(resource_name(task.id)) or {}
        report.ip = attached.get("IPAddress") or ("127.0.0.1" if spec.network == "host" else "")
        report.ports = {str(port): port for port in spec.ports} if spec.network == "host" else _published(settings)
        task.move(RUNNING)
        host.changed(task)

    # Run.

    def _keeping(self, task: Task) -> Keeping:
        if task.id not in self._keepings:
            quota = task.spec.log_quota_bytes_per_hour if task.spec is not None else 0
            self._keepings[task.id] = Keeping(task, quota)
        return self._keepings[task.id]

    async def _kill_when_exceeded(self, task: Task, output: Output) -> None:
        await output.exceeded.wait()
        while True:
            await self.kill(task)
            await asyncio.sleep(KILL_AGAIN_S)

    async def _until_end(self, task: Task) -> tuple[Optional[Facts], bool]:
        """(the container when it has ended, or None when it is gone; whether the engine went and took it along)."""
        away = False
        ended_at = 0.0  # when it was seen that somebody else had ended it
        pause = ENGINE_AGAIN_S[0]
        name = resource_name(task.id)
        while True:
            try:
                facts = await self._container(task)
                if facts is None or (away and not facts["State"]["Running"]):
                    return facts, away and not await self._ended_by_itself(facts)
                if not facts["State"]["Running"] and not (ended_at and time.monotonic() < ended_at + ELSEWHERE_S):
                    if ended_at or not await self._killed_elsewhere(task, facts):
                        return facts, False
                    ended_at = time.monotonic()
                if ended_at:
                    await asyncio.sleep(ENGINE_AGAIN_S[0])
                    continue
                pause = ENGINE_AGAIN_S[0]
                away = False  # it came back and the job still runs
                async with await self._docker.open("POST", "/containers/%s/wait" % name) as exchange:
                    await exchange.body()
            except EngineError:
                await asyncio.sleep(pause)  # gone, or the engine is shutting down: the next look says
            except EngineUnreachable:
                away = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, ENGINE_AGAIN_S[1])

    async def _ended_by_itself(self, facts: Optional[Facts]) -> bool:
        """Whether the job came to its own end while the engine was away: with live-restore nobody ends it then. What a
        signal ended may be an engine's doing that had no live-restore yet, and a lost code is told as UNKNOWN."""
        if facts is None or facts["State"]["ExitCode"] in (*KILLED, UNKNOWN):
            return False
        return bool((await self._docker.json("GET", "/info")).get("LiveRestoreEnabled"))

    async def _killed_elsewhere(self, task: Task, facts: Facts) -> bool:
        """Whether somebody else ended the container: a person, or the engine on its own way down. Who it was shows soon
        after, when the container or the engine goes."""
        if (
            task.boot_id != processes.boot_id()
            or task.stop is not None
            or task.memo.get("killed")
            or facts["State"]["ExitCode"] not in KILLED
        ):
            return False
        since = min(int(task.report.started_at or 0), int(time.time()))  # the clock may have been set back since
        query = {
            "since": str(since),
            "until": "%.3f" % time.time(),
            "filters": json.dumps({"container": [facts["Id"]], "event": ["kill"]}),
        }
        try:
            async with await self._docker.open("GET", "/events", query) as exchange:
                return bool(await asyncio.wait_for(exchange.body(), ELSEWHERE_S))
        except (asyncio.TimeoutError, EngineError):
            return False  # the engine keeps it to itself: the job's own exit code is what is known

    async def _signal_all(self, task: Task, number: int) -> bool:
        """Signal every process of the container but its init, as Ctrl-C on a terminal does: a shell alone would wait
        for its child. From the host where that is possible, else by a shell in the container."""
        name = resource_name(task.id)
        top = await self._docker.json("GET", "/containers/%s/top" % name, {"ps_args": "-eo pid"})
        facts = await self._container(task)
        if facts is None:
            return True
        init = facts["State"]["Pid"]
        pids = [int(row[0]) for row in (top or {}).get("Processes") or [] if row[0].isdigit()]
        if os.geteuid() == 0 and _is_ours(init, facts["Id"]):
            for pid in pids:
                if pid != init and _is_ours(pid, facts["Id"]):
                    _send_signal(pid, number)
            return len(pids) > 1
        body = {"Cmd": ["/bin/sh", "-c", "kill -%d -1" % number], "User": "0"}
        started = await self._docker.json("POST", "/containers/%s/exec" % name, body=body)
        try:
            await self._docker.json("POST", "/exec/%s/start" % started["Id"], body={"Detach": True})
        except EngineError:
            return False  # no shell in the image
        return True

    async def _container(self, task: Task) -> Optional[Facts]:
        try:
            return await self._docker.json("GET", "/containers/%s/json" % resource_name(task.id))
        except EngineError as e:
            if e.status != 404:
                raise
            return None


def _spec(task: Task) -> TaskSpec:
    if task.spec is None:
        raise TaskFailed(EXECUTOR_ERROR, "the task was stopped before it was started")
    return task.spec


def _published(settings: Facts) -> Dict[str, int]:
    found = {}
    for port, bindings in (settings.get("Ports") or {}).items():
        for binding in bindings or []:
            found[port.split("/")[0]] = int(binding["HostPort"])
    return found


def _is_ours(pid: int, container: str) -> bool:
    """Whether a process of this machine is in the container: the engine may be elsewhere, numbers may be used again."""
    if not processes.LINUX or not pid:
        return False
    try:
        with open("/proc/%d/cgroup" % pid) as f:
            return container in f.read()
    except OSError:
        return False


def _send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it has just ended
