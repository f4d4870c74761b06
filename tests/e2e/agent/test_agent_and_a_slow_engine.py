"""A task that ends while the engine still makes something for it: nothing of the task is left all the same."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from dstack.agentapi.wire import FAILED, IMAGE_PULL, StopRequest, TaskReport
from support.docker_engine import call
from support.live_agent import LiveAgent

pytestmark = pytest.mark.docker
DEADLINE_S = 120.0
PAUSE_S = 2.0  # within which a task ends that does not wait for what is made


class SlowEngine:
    """Before the engine: carries out a POST to `path` only when `go` is set, whether or not its asker is gone."""

    def __init__(self, engine: str, path: str):
        self._engine = engine.removeprefix("unix://")
        self._path = path.encode()
        self.asked, self.go, self.made = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        to_engine = await asyncio.open_unix_connection(self._engine)
        if head.startswith(b"POST") and self._path in head.split(b"\r\n", 1)[0]:
            size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(size)
            self.asked.set()
            await self.go.wait()
            to_engine[1].write(head + body)
            head = b""
            writer.write(await to_engine[0].readuntil(b"\r\n\r\n"))
            self.made.set()
        to_engine[1].write(head)
        await asyncio.gather(_pass(reader, to_engine[1]), _pass(to_engine[0], writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        pass  # it is gone


@asynccontextmanager
async def slow_engine(engine: str, path: str) -> AsyncIterator[tuple[SlowEngine, str]]:
    folder = Path(tempfile.mkdtemp(prefix="dstack-slow-"))  # a socket's address is short
    slow = SlowEngine(engine, path)
    server = await asyncio.start_unix_server(slow.serve, folder / "sock")
    try:
        yield slow, f"unix://{folder}/sock"
    finally:
        server.close()
        shutil.rmtree(folder)


@asynccontextmanager
async def failing_registry() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Its address; pulls from it fail when the event is set."""
    fails = asyncio.Event()

    async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await fails.wait()
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", fails
    finally:
        fails.set()
        server.close()


def left(engine: str, task_id: str) -> list[str]:
    """What the engine has of the task."""
    wanted = quote(json.dumps({"label": [f"dstack.task={task_id}"]}))
    found = (
        call(engine, "GET", f"/networks?filters={wanted}"),
        call(engine, "GET", f"/containers/json?all=1&filters={wanted}"),
    )
    return [one["Id"] for kind in found for one in kind]


async def forgotten(live: LiveAgent, task_id: str) -> TaskReport:
    """The last report of a task that failed, after all of it was removed."""
    report = await live.state_is(task_id, FAILED)
    await live.client.delete(task_id, 0, force=True)
    return report


@pytest.mark.parametrize(
    ("path", "pulled", "stopped"),
    [("/networks/create", True, False), ("/networks/create", True, True), ("/containers/create", False, True)],
    ids=["its-image-fails-before-its-network", "it-is-stopped-before-its-network", "before-its-container"],
)
async def test_what_comes_late_goes_with_its_task(
    tmp_path: Path, zipapp: Path, docker_engine: str, path: str, pulled: bool, stopped: bool
):
    slow_one = slow_engine(docker_engine, path)
    async with slow_one as (slow, url), failing_registry() as (address, fails), asyncio.timeout(DEADLINE_S):
        live = LiveAgent(zipapp, tmp_path / "state", "docker", url)
        await live.start()
        image = {"image": f"{address}/image:1"} if pulled else {}
        spec = live.spec(entrypoint=["true"], network="bridge", **image)  # no terminal, which would be gone by then
        await live.client.put_task(spec)
        await slow.asked.wait()
        if stopped:
            await live.client.stop(spec.id, StopRequest(grace_s=0))
        else:
            fails.set()
        ending = asyncio.ensure_future(forgotten(live, spec.id))
        await asyncio.wait([ending], timeout=PAUSE_S)
        slow.go.set()
        await slow.made.wait()
        assert (await ending).reason == ("stopped" if stopped else IMAGE_PULL)
        assert left(docker_engine, spec.id) == []
        await live.clean_up()
