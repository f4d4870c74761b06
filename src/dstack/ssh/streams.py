"""SSH channels as asyncio's own streams, so that whoever talks to an agent need not know how it is reached."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import asyncssh

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

LIMIT_BYTES = 1024 * 1024  # read ahead; the channel is paused above twice that


class _Session(asyncio.StreamReaderProtocol):
    """A channel's events, as a stream reader takes them; what a command says on stderr is dropped."""

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        if not datatype:
            super().data_received(data)

    def session_started(self) -> None:
        pass

    def exit_status_received(self, status: int) -> None:
        pass

    def exit_signal_received(self, *signal: Any) -> None:
        pass

    def xon_xoff_requested(self, client_can_do: bool) -> None:
        pass


async def open_socket(connection: asyncssh.SSHClientConnection, path: str) -> Streams:
    """A connection to the host's Unix socket at `path`. Raises asyncssh.ChannelOpenError where that is refused."""
    reader, session = _new_session()
    channel, _ = await connection.create_unix_connection(lambda: cast(Any, session), path)
    return reader, _writer(channel, session, reader)


async def open_port(connection: asyncssh.SSHClientConnection, port: int) -> Streams:
    """A connection to a port of the host's loopback. Raises asyncssh.ChannelOpenError where that is refused."""
    reader, session = _new_session()
    channel, _ = await connection.create_connection(lambda: cast(Any, session), "127.0.0.1", port)
    return reader, _writer(channel, session, reader)


async def open_command(connection: asyncssh.SSHClientConnection, command: str) -> Streams:
    """Standard input and output of a command. Raises asyncssh.ChannelOpenError where no more sessions are allowed."""
    reader, session = _new_session()
    channel, _ = await connection.create_session(lambda: cast(Any, session), command, encoding=None)
    return reader, _writer(channel, session, reader)


def _new_session() -> tuple[asyncio.StreamReader, _Session]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LIMIT_BYTES, loop=loop)
    return reader, _Session(reader, loop=loop)


def _writer(channel: Any, session: _Session, reader: asyncio.StreamReader) -> asyncio.StreamWriter:
    return asyncio.StreamWriter(channel, session, reader, asyncio.get_running_loop())
