"""The way of git's HTTP out of the server: a SOCKS5 proxy on loopback that looks at each address it connects to.

git follows redirects, and looks a name up when it likes: what was checked before it started may not be what it reaches.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
from collections.abc import AsyncIterator

from dstack.git.failures import GitFailed
from dstack.git.reach import Forbidden, addresses

CONNECT_S = 15.0
GREETING_S = 15.0
PIECE_BYTES = 256 * 1024
DONE, FORBIDDEN, UNREACHABLE, REFUSED, NOT_UNDERSTOOD = 0, 2, 4, 5, 7
_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to it",
    errno.ENETUNREACH: "no route to it",
    errno.ETIMEDOUT: "no answer in time",
}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Gate:
    """`problem` is why the last connection was not made."""

    def __init__(self, loopback: bool):
        self.problem: GitFailed | None = None
        self.port = 0
        self._loopback = loopback
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._serving.add(me)
        try:
            await self._exchange(reader, writer)
        except (OSError, EOFError, TimeoutError):
            pass  # git has what it wanted, or was ended
        finally:
            self._serving.discard(me)
            writer.close()

    async def stop(self) -> None:
        for each in list(self._serving):
            each.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(GREETING_S):
            version, methods = await reader.readexactly(2)
            await reader.readexactly(methods)
            if version != 5:
                return
            writer.write(b"\x05\x00")
            host, port = await _destination(reader)
        if not host:
            writer.write(_answer(NOT_UNDERSTOOD))
            return
        try:
            there = await self._connect(host, port)
        except GitFailed as e:
            self.problem = e
            writer.write(_answer(FORBIDDEN if isinstance(e, Forbidden) else REFUSED))
            await writer.drain()
            return
        self.problem = None
        writer.write(_answer(DONE))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, there[1]))
                both.create_task(_carry(there[0], writer))
        except* (OSError, EOFError):
            pass  # one side has gone: so does the other
        finally:
            there[1].close()

    async def _connect(self, host: str, port: int) -> Streams:
        failed: OSError = OSError(errno.EHOSTUNREACH, "")
        for address in await addresses(host, port, loopback=self._loopback):
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(address, port)
            except TimeoutError:
                failed = OSError(errno.ETIMEDOUT, "")
            except OSError as e:
                failed = e
        words = _WORDS.get(failed.errno or 0)
        raise GitFailed(f"{host} cannot be reached" + (f": {words}" if words else ""))


@contextlib.asynccontextmanager
async def gate(loopback: bool) -> AsyncIterator[Gate]:
    """One for the time of a fetch. It stands on the loopback, and gives nobody more than git may have."""
    found = Gate(loopback)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await found.stop()


async def _destination(reader: asyncio.StreamReader) -> tuple[str, int]:
    """(host, port); ("", 0) for what is no order to connect."""
    version, command, _, kind = await reader.readexactly(4)
    if version != 5 or command != 1 or kind not in (1, 3, 4):
        return "", 0
    if kind == 3:
        (size,) = await reader.readexactly(1)
        host = (await reader.readexactly(size)).decode("ascii", "replace")
    else:
        host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
    return host, int.from_bytes(await reader.readexactly(2), "big")


def _answer(code: int) -> bytes:
    return bytes([5, code, 0, 1]) + bytes(6)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
