"""The client of agents, where it must not believe the host."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dstack.agentapi.client import AgentClient, AgentUnreachable, unix_connect


async def test_an_answer_that_would_fill_the_memory_is_not_read(tmp_path: Path):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n{")
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "agent.sock")
    client = AgentClient(unix_connect(tmp_path / "agent.sock"))
    with pytest.raises(AgentUnreachable, match="100000000000 bytes"):
        await client.health(deadline_s=10)
    server.close()
