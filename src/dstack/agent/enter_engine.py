"""The engine's API as a session needs it: a few requests and one connection that becomes the command's streams."""

from __future__ import annotations

import json
import socket

from dstack.agent.enter_command import CannotEnter

ANSWER_S = 60.0
MAX_HEAD = 65536


class EngineSays(CannotEnter):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def request(engine, method: str, path: str, body=None) -> dict:
    """One exchange; the decoded answer, {} for an empty one. Raises CannotEnter, EngineSays."""
    connection, head, rest = _exchange(engine, method, path, body, "Connection: close")
    with connection:
        data = rest
        while True:
            more = connection.recv(65536)
            if not more:
                break
            data += more
    if "transfer-encoding: chunked" in head.lower():
        data = _unchunked(data)
    _check(head, data)
    return json.loads(data.decode()) if data.strip() else {}


def hijack(engine, path: str, body) -> tuple[socket.socket, bytes]:
    """(the connection that is from now on the command's input and output, what came with the answer)."""
    connection, head, rest = _exchange(engine, "POST", path, body, "Connection: Upgrade\r\nUpgrade: tcp")
    status = _status(head)
    if status not in (101, 200):
        connection.settimeout(2.0)
        try:
            rest += connection.recv(65536)
        except OSError:
            pass  # the status alone then
        connection.close()
        _check(head, _unchunked(rest) if "chunked" in head.lower() else rest)
    connection.settimeout(None)
    return connection, rest


def _exchange(engine, method: str, path: str, body, connection_header: str) -> tuple[socket.socket, str, bytes]:
    data = b"" if body is None else json.dumps(body).encode()
    head = "%s %s HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n\r\n"
    try:
        connection = _connect(engine)
        connection.sendall((head % (method, path, len(data), connection_header)).encode() + data)
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = connection.recv(65536)
            if not more or len(answer) > MAX_HEAD:
                raise CannotEnter("the Docker Engine broke off")
            answer += more
    except OSError as e:
        raise CannotEnter("the Docker Engine does not answer: %s" % (e.strerror or e)) from None
    text, _, rest = answer.partition(b"\r\n\r\n")
    return connection, text.decode("latin-1"), rest


def _connect(engine) -> socket.socket:
    if isinstance(engine, str):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_S)
        connection.connect(engine)
        return connection
    return socket.create_connection((engine[0], engine[1]), ANSWER_S)


def _status(head: str) -> int:
    return int(head.split(" ", 2)[1])


def _check(head: str, data: bytes) -> None:
    status = _status(head)
    if status < 400:
        return
    try:
        message = json.loads(data.decode())["message"]
    except (ValueError, KeyError, TypeError):
        message = data.decode("utf-8", "replace").strip() or "HTTP %d" % status
    raise EngineSays(status, message)


def _unchunked(data: bytes) -> bytes:
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        out, data = out + data[:length], data[length + 2 :]
    return out
