"""`dstack ssh-stdio`: what OpenSSH calls to get into a run through the server; not for people."""

from __future__ import annotations

import os
import threading

import click

from dstack.cli.command import Command
from dstack.cli.session import entry_of_command, project_option
from dstack.errors import DstackError

OPEN_S = 25.0
PIECE = 64 * 1024
REFUSED = 4000  # how the server closes the websocket where nobody gets in


@click.command(cls=Command, hidden=True)
@click.argument("run_name")
@click.option("--job", "job_num", metavar="N", type=click.IntRange(0), default=0)
@click.option("--replica", metavar="N", type=click.IntRange(0), default=0)
@project_option
def ssh_stdio(run_name: str, job_num: int, replica: int) -> None:
    """The sshd of a run on stdin and stdout, through the server."""
    from urllib.parse import quote, urlsplit, urlunsplit

    from websockets.exceptions import ConnectionClosed, WebSocketException
    from websockets.sync.client import connect

    entry = entry_of_command()
    parts = urlsplit(entry.url)
    path = f"{parts.path.rstrip('/')}/api/project/{entry.name}/runs/{quote(run_name, safe='')}/ssh"
    scheme = "wss" if parts.scheme == "https" else "ws"
    url = urlunsplit((scheme, parts.netloc, path, f"job={job_num}&replica={replica}", ""))
    headers = {"Authorization": f"Bearer {entry.token}"}
    try:
        connection = connect(url, additional_headers=headers, compression=None, max_size=None, open_timeout=OPEN_S)
    except (OSError, TimeoutError, WebSocketException) as e:
        raise DstackError(f"the server cannot be reached: {e}") from None
    with connection:
        threading.Thread(target=_send, args=(connection,), daemon=True).start()
        try:
            for piece in connection:
                _write(piece if isinstance(piece, bytes) else piece.encode())
        except (ConnectionClosed, BrokenPipeError):
            pass  # either end is done
    if connection.close_code == REFUSED:
        raise DstackError(connection.close_reason or "the server refuses")


def _send(connection) -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        while piece := os.read(0, PIECE):
            connection.send(piece)
        connection.close()
    except (ConnectionClosed, OSError):
        pass  # the other end is done


def _write(piece: bytes) -> None:
    while piece:
        piece = piece[os.write(1, piece) :]
