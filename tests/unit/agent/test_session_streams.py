"""The bytes of a session: frames cut anywhere come apart as they were, and what is not taken at once is not lost."""

from __future__ import annotations

import os

import pytest

from dstack.agent.enter_streams import Frames, Outgoing


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("cut", [1, 3, 8, 9, 1000])
def test_frames_cut_anywhere_come_apart_into_their_streams(cut: int):
    pipes = [os.pipe(), os.pipe()]
    output, errors = (Outgoing(writing) for _, writing in pipes)
    frames = Frames(output, errors)
    whole = frame(1, b"out") + frame(2, b"err") + frame(1, b"") + frame(1, b"put" * 50)
    for at in range(0, len(whole), cut):
        frames.take(whole[at : at + cut])
    for outgoing in (output, errors):
        outgoing.flush()
        assert outgoing.size == 0
    assert [os.read(reading, 4096) for reading, _ in pipes] == [b"out" + b"put" * 50, b"err"]
    for fd in (fd for pipe in pipes for fd in pipe):
        os.close(fd)


def test_what_a_reader_does_not_take_at_once_is_written_later_in_its_order():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    outgoing, got = Outgoing(writing), b""
    pieces = [bytes([n]) * 30_000 for n in range(100)]
    for piece in pieces:
        outgoing.put(piece)
    while outgoing.size:
        outgoing.flush()
        got += os.read(reading, 50_000)
    os.close(writing)
    with os.fdopen(reading, "rb") as rest:
        assert got + rest.read() == b"".join(pieces)


def test_a_reader_that_has_gone_is_told():
    reading, writing = os.pipe()
    os.close(reading)
    outgoing = Outgoing(writing)
    outgoing.put(b"x")
    with pytest.raises(BrokenPipeError):
        outgoing.flush()
    os.close(writing)
