"""The SFTP server's answers, packet by packet."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstack.agent import sftp_packets as p
from dstack.agent.sftp import Server


class Client:
    """Speaks to a server that runs on a thread."""

    def __init__(self) -> None:
        theirs, self._out = os.pipe()
        self._in, ours = os.pipe()
        self._number = 0
        self._ends = [theirs, ours]
        self._thread = threading.Thread(target=lambda: (Server(theirs, ours, "/").run(), os.close(ours)), daemon=True)
        self._thread.start()

    def send(self, kind: int, body: bytes) -> None:
        os.write(self._out, struct.pack(">IB", 1 + len(body), kind) + body)

    def ask(self, kind: int, *parts: bytes) -> tuple[int, p.Reader]:
        self._number += 1
        self.send(kind, struct.pack(">I", self._number) + b"".join(parts))
        answer, fields = self.receive()
        assert fields.u32() == self._number
        return answer, fields

    def receive(self) -> tuple[int, p.Reader]:
        (size,) = struct.unpack(">I", self._exactly(4))
        data = self._exactly(size)
        return data[0], p.Reader(memoryview(data)[1:])

    def code(self, kind: int, *parts: bytes) -> int:
        answer, fields = self.ask(kind, *parts)
        assert answer == p.STATUS
        return fields.u32()

    def opened(self, path: Path, flags: int) -> bytes:
        kind, fields = self.ask(p.OPEN, p.string(bytes(path)), struct.pack(">II", flags, 0))
        assert kind == p.HANDLE
        return p.string(fields.string())

    def gone(self) -> bool:
        self._thread.join(30)
        return not self._thread.is_alive()

    def close(self) -> None:
        os.close(self._out)
        assert self.gone()
        os.close(self._in)
        os.close(self._ends[0])

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(self._in, size - len(data))
            assert more, "the server has gone"
            data += more
        return data


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


def test_the_version_is_three_and_names_what_openssh_asks_for(client: Client):
    client.send(p.INIT, struct.pack(">I", 3))
    kind, fields = client.receive()
    assert (kind, fields.u32()) == (p.VERSION, 3)
    assert fields.string() == b"posix-rename@openssh.com"


def test_what_is_written_at_any_place_is_read_back(client: Client, tmp_path: Path):
    handle = client.opened(tmp_path / "f", p.F_READ | p.F_WRITE | p.F_CREATE)
    for offset, data in ((5, b"world"), (0, b"hello")):
        assert client.code(p.WRITE, handle, struct.pack(">Q", offset), p.string(data)) == p.OK
    kind, fields = client.ask(p.READ, handle, struct.pack(">QI", 3, 100))
    assert (kind, fields.string()) == (p.DATA, b"loworld")
    assert client.code(p.READ, handle, struct.pack(">QI", 10, 100)) == p.EOF
    assert client.code(p.CLOSE, handle) == p.OK
    assert client.code(p.CLOSE, handle) == p.NO_SUCH_FILE


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/"])
def test_only_plain_files_are_opened(client: Client, path: str):
    body = p.string(path.encode()) + struct.pack(">II", p.F_READ, 0)
    assert client.code(p.OPEN, body) in (p.PERMISSION_DENIED, p.FAILURE)


def test_a_named_pipe_does_not_hold_up_the_server(client: Client, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert (
        client.code(p.OPEN, p.string(bytes(tmp_path / "pipe")), struct.pack(">II", p.F_READ, 0)) == p.PERMISSION_DENIED
    )


def test_rename_does_not_replace_and_its_extension_does(client: Client, tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    names = p.string(bytes(tmp_path / "a")) + p.string(bytes(tmp_path / "b"))
    assert client.code(p.RENAME, names) == p.FAILURE
    assert client.code(p.EXTENDED, p.string(b"posix-rename@openssh.com"), names) == p.OK
    assert (tmp_path / "b").read_text() == "a"


def test_a_folder_is_listed_whole_in_pieces(client: Client, tmp_path: Path):
    for number in range(250):
        (tmp_path / f"f{number}").touch()
    kind, fields = client.ask(p.OPENDIR, p.string(bytes(tmp_path)))
    handle = p.string(fields.string())
    seen = set()
    while True:
        kind, fields = client.ask(p.READDIR, handle)
        if kind == p.STATUS:
            assert fields.u32() == p.EOF
            break
        for _ in range(fields.u32()):
            seen.add(fields.string())
            fields.string()
            fields.attributes()
    assert seen == {b".", b"..", *(b"f%d" % number for number in range(250))}


def test_what_is_missing_forbidden_or_unknown_is_told_as_such(client: Client, tmp_path: Path):
    assert client.code(p.STAT, p.string(bytes(tmp_path / "no"))) == p.NO_SUCH_FILE
    assert client.code(p.EXTENDED, p.string(b"copy-everything")) == p.OP_UNSUPPORTED
    assert client.code(77) == p.OP_UNSUPPORTED
    assert client.code(p.OPEN, struct.pack(">I", 1000)) == p.BAD_MESSAGE
    assert client.code(p.STAT, p.string(b"a\0b")) == p.BAD_MESSAGE


def test_a_packet_of_impossible_size_ends_the_conversation():
    client = Client()
    os.write(client._out, struct.pack(">IB", 2**31, p.WRITE))
    assert client.gone()
    client.close()
