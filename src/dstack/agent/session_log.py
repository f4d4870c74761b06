"""A task's log for clients of the public API: a websocket at port 10999 of the loopback to which its sshd forwards.

A container with a network of its own has a listener there, made from outside. Tasks in the machine's network share one
listener, which finds out through whose sshd a connection came: nobody else on the machine reads a log there.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import socket
import struct
import threading
from datetime import datetime
from typing import Any, Dict, List, Optional, Set, Tuple

from dstack.agent import logfile, processes, websocket
from dstack.agent.aside import aside
from dstack.agent.machine import Task

log = logging.getLogger("dstack.agent")

PORT = 10999
PATH = "/logs_ws"
MAX_READERS = 16  # of one listener at a time
HANDSHAKE_S = 10.0
PING_S = 20.0
LAST_LINES_S = 5.0  # how long the end of a task waits for those who read its log
PIECE_BYTES = 256 * 1024
CLONE_NEWNET = 0x40000000


class LogReaders:
    """Who reads one task's log just now."""

    def __init__(self, task: Task):
        self.task = task
        self._reading: Set["asyncio.Future[Any]"] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        if len(self._reading) >= MAX_READERS:
            return
        self._reading.add(me)
        try:
            path, query = await asyncio.wait_for(websocket.handshake(reader, writer), HANDSHAKE_S)
            if path != PATH:
                websocket.refuse(writer, "404 Not Found")
                return
            offset = await _offset(self.task, query.get("start_time", ""))
            websocket.accept(writer, query["_key"])
            await self._send(reader, writer, offset)
        except websocket.NoWebsocket:
            websocket.refuse(writer, "400 Bad Request")
        finally:
            self._reading.discard(me)

    async def finish(self) -> None:
        """Wait for those who read the last lines; they have a few seconds."""
        if self._reading:
            await asyncio.wait(self._reading, timeout=LAST_LINES_S)

    def stop(self) -> None:
        for each in self._reading:
            each.cancel()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, offset: int) -> None:
        gone = asyncio.ensure_future(websocket.until_closed(reader, writer))
        gone.add_done_callback(lambda _: self.task.log_grew.fire())
        try:
            while not gone.done():
                ended, size = self.task.ended, self.task.log_size
                if size > offset:
                    data = await aside(logfile.read, self.task.directory, offset, min(PIECE_BYTES, size - offset))
                    offset += len(data)
                    writer.write(websocket.frame(websocket.BINARY, data))
                    await writer.drain()
                elif ended:
                    writer.write(websocket.frame(websocket.CLOSE, websocket.NORMAL.to_bytes(2, "big")))
                    await asyncio.wait([gone], timeout=LAST_LINES_S)
                    return
                else:
                    if not await self.task.log_grew.wait(PING_S):
                        writer.write(websocket.frame(websocket.PING))  # whether it is still there
                        await writer.drain()
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


class OwnPort:
    """The listener in the network of one container. `network` is a descriptor of it."""

    def __init__(self, readers: LogReaders):
        self._readers = readers
        self._server: Any = None

    async def open(self, network: int, port: int) -> None:
        """Raises OSError, also where the job has the port."""
        listening = await aside(_listen_in, network, port)
        self._server = await asyncio.start_server(self._serve, sock=listening, limit=websocket.MAX_HEAD_BYTES)

    def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _serving(self._readers, reader, writer)


class SharedPort:
    """The listener on the machine's own loopback, there while a task needs it."""

    def __init__(self, port: int):
        self._port = port
        self._readers: Dict[LogReaders, Any] = {}
        self._server: Any = None

    async def add(self, readers: LogReaders, connections: Any) -> None:
        """`connections` are those of the task's door. Raises OSError while somebody else has the port."""
        if not processes.LINUX:
            return  # whose a connection is cannot be told there
        if self._server is None:
            listening = _listen(self._port)
            self._server = await asyncio.start_server(self._serve, sock=listening, limit=websocket.MAX_HEAD_BYTES)
        self._readers[readers] = connections

    def remove(self, readers: LogReaders) -> None:
        self._readers.pop(readers, None)
        if not self._readers:
            self.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        owners = {pid: readers for readers, connections in self._readers.items() for pid in connections.pids}
        pid = await aside(_connected_by, peer, here, set(owners))
        if pid is None:
            writer.close()
        else:
            await _serving(owners[pid], reader, writer)


async def _serving(readers: LogReaders, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await readers.serve(reader, writer)
    except (OSError, EOFError, asyncio.TimeoutError, asyncio.CancelledError):
        pass  # the client has gone, or the task does
    finally:
        writer.close()


async def _offset(task: Task, since: str) -> int:
    """Where in the log to begin. An instant that cannot be read is none."""
    try:
        instant = datetime.fromisoformat(since.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0
    written = await aside(logfile.written_since, task.directory, instant)
    return max(0, task.log_size - written)


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(MAX_READERS)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _listen_in(network: int, port: int) -> socket.socket:
    """A listener on the loopback of another network: made by a thread that goes there, and ends there."""
    found: List[Any] = []

    def there() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(network, CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            found.append(_listen(port))
        except (OSError, AttributeError) as e:
            found.append(e)

    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    thread.join()
    if isinstance(found[0], socket.socket):
        return found[0]
    raise found[0] if isinstance(found[0], OSError) else OSError(str(found[0]))


def _connected_by(peer: Tuple[str, int], here: Tuple[str, int], sessions: Set[int]) -> Optional[int]:
    """Which of `sessions` (numbers of processes that lead one) has the other end of the connection."""
    inode = _inode(_hexadecimal(peer), _hexadecimal(here))
    if inode is None:
        return None
    wanted = "socket:[%s]" % inode
    for row in processes.table().values():
        if row.session in sessions and _has(row.pid, wanted):
            return row.session
    return None


def _inode(local: str, remote: str) -> Optional[str]:
    with open("/proc/net/tcp") as f:
        for line in f:
            fields = line.split()
            if len(fields) > 9 and fields[1] == local and fields[2] == remote:
                return fields[9]
    return None


def _hexadecimal(address: Tuple[str, int]) -> str:
    """As in /proc/net/tcp: the address in the machine's order of bytes, the port in the network's."""
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return "%08X:%04X" % (number, address[1])


def _has(pid: int, wanted: str) -> bool:
    folder = "/proc/%d/fd" % pid
    try:
        return any(_target(os.path.join(folder, name)) == wanted for name in os.listdir(folder))
    except OSError:
        return False  # it has just ended, or is somebody else's


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
