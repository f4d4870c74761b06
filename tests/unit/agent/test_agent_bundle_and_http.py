"""The zipapp as a file, and the server's answers to what is no proper request."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dstack
from dstack.agent.bundle import build
from dstack.agent.http import MAX_HEAD_BYTES, HttpError, HttpServer, Request, Response


def test_the_zipapp_is_built_once(tmp_path):
    first = build(tmp_path)
    stamp = first.stat().st_mtime_ns
    assert build(tmp_path) == first and first.stat().st_mtime_ns == stamp
    assert [p.name for p in tmp_path.iterdir()] == [first.name]


def test_a_zipapp_of_other_sources_has_another_name(tmp_path):
    ours = Path(dstack.__file__).parent
    for part in ("agent", "agentapi"):
        shutil.copytree(ours / part, tmp_path / "dstack" / part)
    shutil.copy(ours / "__init__.py", tmp_path / "dstack")
    with (tmp_path / "dstack" / "agent" / "http.py").open("a") as source:
        source.write("# changed\n")
    program = "from dstack.agent.bundle import build; print(build('changed').name)"
    made = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert made.stdout.strip() != build(tmp_path / "as_it_is").name


def test_the_same_sources_give_the_same_bytes(tmp_path):
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    # Two of one moment would be the same bytes also with the time in them.
    assert {entry.date_time for entry in zipfile.ZipFile(first).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_zipapp_holds_the_agent_and_its_wire_and_nothing_else(tmp_path):
    names = zipfile.ZipFile(build(tmp_path)).namelist()
    others = {n for n in names if not n.startswith("dstack/agent/")}
    assert others == {"__main__.py", "dstack/__init__.py", "dstack/agentapi/__init__.py", "dstack/agentapi/wire.py"}


async def ask(data: bytes) -> bytes:
    """What a server that echoes bodies (and refuses those of `/no`) answers to `data`."""

    async def echo(request: Request) -> Response:
        if request.path == "/no":
            raise HttpError(409, "no", "not this")
        return Response(b"".join([piece async for piece in request.pieces()]))

    ours, theirs = socket.socketpair()
    server = HttpServer(echo)
    reader, writer = await asyncio.open_connection(sock=ours)
    serving = asyncio.ensure_future(server.serve_connection(*await asyncio.open_connection(sock=theirs)))
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 60)
    await serving
    writer.close()
    return answer


async def test_requests_on_one_connection_are_answered_in_order():
    answer = await ask(b"".join(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n" + body for body in (b"one", b"two")))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert [part[:3] for part in answer.split(b"\r\n\r\n")[1:]] == [b"one", b"two"]


async def test_after_a_refusal_the_connection_goes_on():
    answer = await ask(b"PUT /no HTTP/1.1\r\nContent-Length: 3\r\n\r\noneGET /b HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 409 Conflict") and b'"code": "no"' in answer and b"200 OK" in answer


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort",
    ],
)
async def test_what_is_no_request_is_refused_with_400(data):
    assert (await ask(data)).startswith(b"HTTP/1.1 400 Bad Request")


async def test_a_head_that_is_too_large_is_refused():
    assert (await ask(b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n")).startswith(b"HTTP/1.1 413")


async def test_a_connection_that_only_opens_and_closes_is_no_trouble():
    assert await ask(b"") == b""
