"""The client of agents, where it must not believe the host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dstack.agentapi.client import AgentClient, AgentUnreachable, unix_connect


async def test_an_answer_that_would_fill_the_memory_is_not_read(tmp_path: Path):
    async with _agent(tmp_path, b"Content-Length: 100000000000\r\n\r\n{") as client:
        with pytest.raises(AgentUnreachable, match="100000000000 bytes"):
            await client.health(deadline_s=10)


async def test_instants_of_a_log_that_are_no_dates_are_left_out(tmp_path: Path):
    marks = b"X-Log-Next: 4\r\nX-Log-Marks: [[0, 5], [1, 1e300], [2, NaN], [3, -Infinity]]\r\n"
    async with _agent(tmp_path, marks + b"Content-Length: 4\r\n\r\nabcd") as client:
        assert (await client.logs("t", 0)).marks == ((0, 5.0),)


async def test_numbers_that_are_none_are_an_answer_that_cannot_be_understood(tmp_path: Path):
    marks = b"X-Log-Next: 4\r\nX-Log-Marks: [[1e999, 5]]\r\n"
    async with _agent(tmp_path, marks + b"Content-Length: 4\r\n\r\nabcd") as client:
        with pytest.raises(AgentUnreachable, match="cannot be understood"):
            await client.logs("t", 0)


@contextlib.asynccontextmanager
async def _agent(folder: Path, answered: bytes) -> AsyncIterator[AgentClient]:
    """The client of an agent that answers its one question with that."""
    done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + answered)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        done.set()

    server = await asyncio.start_unix_server(answer, folder / "agent.sock")
    client = AgentClient(unix_connect(folder / "agent.sock"))
    try:
        yield client
    finally:
        await client.aclose()
        async with asyncio.timeout(60):
            await done.wait()
        server.close()
