"""The agent as a program: built, started, killed, asked through its client."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from dstack.agentapi.client import AgentClient, AgentUnreachable, unix_connect
from dstack.agentapi.wire import ENDED, StopRequest, TaskReport, TaskSpec
from support.docker_engine import BUSYBOX_IMAGE

PATIENCE_S = 60.0
# The agent's floor is older than that of the tests: DSTACK_TEST_AGENT_PYTHON runs whole suites under another one.
PYTHON = os.environ.get("DSTACK_TEST_AGENT_PYTHON") or sys.executable


class LiveAgent:
    """An agent on a state folder, which a test may kill and start again."""

    def __init__(self, zipapp: Path, state: Path, runtime: str, docker_host: str = "", python: str = ""):
        self.zipapp = zipapp
        self.state = state
        self.runtime = runtime
        self.docker_host = docker_host
        self.python = python or PYTHON
        self.socket = state / "agent.sock"
        self.client = AgentClient(unix_connect(self.socket))
        self.process: subprocess.Popen[bytes] | None = None
        self.user: str | None = None  # run it as somebody else
        self.env: dict[str, str] | None = None  # None: that of the tests
        self.options: list[str] = []  # more of `serve`

    def argv(self) -> list[str]:
        host = ["--docker-host", self.docker_host] if self.docker_host else []
        return [
            self.python,
            "-IS",
            str(self.zipapp),
            "serve",
            "--state",
            str(self.state),
            "--runtime",
            self.runtime,
            *host,
            *self.options,
        ]

    async def start(self) -> None:
        self.state.mkdir(exist_ok=True)
        with open(self.state.parent / "agent.err", "ab") as err:
            self.process = subprocess.Popen(self.argv(), stdout=err, stderr=err, user=self.user, env=self.env)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                await self.client.health(deadline_s=5)
                return
            except AgentUnreachable:
                assert self.process.poll() is None and time.monotonic() < deadline, self.errors()
                await asyncio.sleep(0.01)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the agent's process only, as a crash does."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)

    def errors(self) -> str:
        return (self.state.parent / "agent.err").read_text()

    def spec(self, script: str | None = None, **fields) -> TaskSpec:
        image = BUSYBOX_IMAGE if self.runtime == "docker" else ""
        base = {"id": str(uuid.uuid4()), "name": "job-0-0", "image": image, "script": script, "network": "host"}
        return TaskSpec(**{**base, **fields})

    async def run(self, script: str | None = None, **fields) -> tuple[TaskReport, bytes]:
        """Run a job to its end: its last report and its whole log."""
        spec = self.spec(script, **fields)
        await self.client.put_task(spec)
        return await self.finish(spec.id)

    async def finish(self, task_id: str) -> tuple[TaskReport, bytes]:
        data = await self.whole_log(task_id)
        report = await self.report(task_id)
        assert report.state in ENDED and report.log_size == len(data)
        return report, data

    async def whole_log(self, task_id: str, data: bytes = b"") -> bytes:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            chunk = await self.client.logs(task_id, len(data), 10)
            data += chunk.data
            assert chunk.next == len(data)
            if chunk.final:
                return data
        raise AssertionError(f"the log did not end: {data[-500:]!r} {await self.report(task_id)}")

    async def log_holds(self, task_id: str, wanted: bytes) -> bytes:
        """Wait until the log has `wanted`; the log so far."""
        data = b""
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in data:
            chunk = await self.client.logs(task_id, len(data), 5)
            data += chunk.data
            assert not (chunk.final and wanted not in data), f"{data!r} {await self.report(task_id)}"
            assert time.monotonic() < deadline, data
        return data

    async def state_is(self, task_id: str, *states: str) -> TaskReport:
        run, seq = "", 0
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            page = await self.client.events(run, seq, 5)
            run, seq = page.run, page.seq
            for report in page.tasks:
                if report.id == task_id and report.state in states:
                    return report
        raise AssertionError(f"never {states}: {await self.report(task_id)}")

    async def report(self, task_id: str) -> TaskReport:
        return next(t for t in await self.client.tasks() if t.id == task_id)

    async def clean_up(self) -> None:
        """End and forget every task, then the agent; a test that killed its agent gets it started again for that."""
        if self.process is None:
            return
        if self.process.poll() is not None:
            await self.start()
        for task in await self.client.tasks():
            await self.client.stop(task.id, StopRequest(grace_s=0))
            await self.whole_log(task.id)
            await self.client.delete(task.id, 0, force=True)
        await self.client.aclose()
        self.kill(signal.SIGTERM)


def arguments(pid: int) -> bytes:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
