"""The server's side of a websocket (RFC 6455): the handshake, frames out, and of what comes in only its end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from typing import Dict, Tuple
from urllib.parse import parse_qsl, urlsplit

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
NORMAL = 1000
MAX_HEAD_BYTES = 16 * 1024
MAX_FRAME_BYTES = 64 * 1024  # of what clients send: nothing but control frames is expected


class NoWebsocket(Exception):
    """What knocked speaks something else."""


async def handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Tuple[str, Dict[str, str]]:
    """(path, query) of the request, which `accept` or `refuse` answers. Raises NoWebsocket, OSError, EOFError."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        _, target, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        url = urlsplit(target)
    except (ValueError, asyncio.LimitOverrunError):
        raise NoWebsocket("this is no HTTP request") from None
    key = headers.get("sec-websocket-key", "")
    if headers.get("upgrade", "").lower() != "websocket" or not key:
        raise NoWebsocket("this is no websocket")
    query = dict(parse_qsl(url.query))
    query["_key"] = key
    return url.path, query


def accept(writer: asyncio.StreamWriter, key: str) -> None:
    digest = base64.b64encode(hashlib.sha1(key.encode("latin-1") + GUID).digest())
    lines = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(lines + b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n")


def refuse(writer: asyncio.StreamWriter, status: str) -> None:
    """`status` is number and phrase."""
    writer.write(("HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status).encode("latin-1"))


def frame(kind: int, data: bytes = b"") -> bytes:
    """One whole message, not masked, as servers send them."""
    size = len(data)
    if size < 126:
        length = struct.pack(">B", size)
    elif size < 65536:
        length = struct.pack(">BH", 126, size)
    else:
        length = struct.pack(">BQ", 127, size)
    return bytes([0x80 | kind]) + length + data


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on until the client closes, answering its pings. Never raises for what clients do."""
    try:
        while True:
            kind, data = await _read_frame(reader)
            if kind == CLOSE:
                return
            if kind == PING:
                writer.write(frame(PONG, data))
    except (EOFError, OSError, NoWebsocket):
        return


async def _read_frame(reader: asyncio.StreamReader) -> Tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", await reader.readexactly(8))
    if size > MAX_FRAME_BYTES:
        raise NoWebsocket("the frame is too large")
    mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
    data = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
