"""A connection within the process behaves as one over a socket does, as far as its two ends can tell."""

from __future__ import annotations

import asyncio

from dstack.backends.sim.pipe import open_pipe


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.lost = transport, False

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


async def test_what_is_written_arrives_in_order():
    reader, writer = open_pipe(Echo())
    for n in range(100):
        writer.write(b"%d\n" % n)
    assert await reader.readexactly(290) == b"".join(b"%d\n" % n for n in range(100))


async def test_more_than_the_reader_holds_arrives_whole():
    reader, writer = open_pipe(Echo())
    pieces = [bytes([n]) * 100_000 for n in range(20)]
    for piece in pieces:
        writer.write(piece)
    await asyncio.sleep(0)
    assert await reader.readexactly(2_000_000) == b"".join(pieces)


async def test_the_other_end_hears_that_one_has_left():
    server = Echo()
    _, writer = open_pipe(server)
    writer.close()
    while not server.lost:
        await asyncio.sleep(0)


async def test_what_was_written_before_the_end_is_still_read():
    server = Echo()
    reader, writer = open_pipe(server)
    for _ in range(5):
        server.transport.write(b"x" * 100_000)
    server.transport.close()
    assert len(await reader.read(-1)) == 500_000
    writer.close()


async def test_a_connection_that_is_cut_ends_the_reading_of_its_own_end():
    reader, writer = open_pipe(Echo())
    reading = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    writer.transport.abort()
    assert await reading == b""
