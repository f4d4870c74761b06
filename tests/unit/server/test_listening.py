"""The socket that the server serves on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from dstack.errors import DstackError
from dstack.server.main import listen
from dstack.server.settings import Settings


async def test_an_answer_in_two_pieces_does_not_wait_for_an_acknowledgement(tmp_path: Path):
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        accepted.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen(Settings(tmp_path, port=0)) as listening:
        async with await asyncio.start_server(serve, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            assert await asyncio.wait_for(accepted, 60)
            writer.close()


def test_a_taken_port_is_named(tmp_path: Path):
    with listen(Settings(tmp_path, port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DstackError, match=f"Cannot listen on 127.0.0.1:{port}"):
            listen(Settings(tmp_path, port=port))
