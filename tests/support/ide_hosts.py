"""The hosts of IDE vendors on loopback: the paths that they have, with tiny archives of the right form."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NUMBER = "1.95.3"
HELD_S = 60.0


def archive(folder: str, **files: str) -> bytes:
    """A .tar.gz of these files in `folder`; "" puts them on top."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            entry.size, entry.mode, entry.uid = len(text), 0o755, 4321
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


@dataclass
class IdeHosts:
    """`files` are the answers by path, others are not found; `asked` are the paths in their order.

    Nothing is answered while `open` is cleared.
    """

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)


def published(arch: str) -> dict[str, bytes]:
    """One version of each IDE, for machines that vendors call `arch`: x64 or arm64."""
    product = json.dumps({"nameShort": "Code", "commit": COMMIT, "date": "2024-11-13"}, indent="\t")
    code = archive(f"vscode-server-linux-{arch}", node="#!/bin/sh\n", **{"product.json": product})
    cursor = archive(f"vscode-reh-linux-{arch}", node="#!/bin/sh\n")
    windsurf = archive(f"windsurf-reh-linux-{arch}", node="#!/bin/sh\n", **{"product.json": product})
    zed = {"x64": "x86_64", "arm64": "aarch64"}[arch]
    return {
        f"/vscode/commit:{COMMIT}/server-linux-{arch}/stable": code,
        f"/vscode/{NUMBER}/server-linux-{arch}/stable": code,
        f"/vscode/commit:{COMMIT}/cli-alpine-{arch}/stable": archive("", code="#!/bin/sh\n"),
        f"/cursor/{COMMIT}/linux/{arch}/cursor-reh-linux-{arch}.tar.gz": cursor,
        f"/windsurf/linux-reh-{arch}/stable/{COMMIT}/windsurf-reh-linux-{arch}-{NUMBER}.tar.gz": windsurf,
        f"/zed/stable/{NUMBER}/zed-remote-server-linux-{zed}.gz": gzip.compress(b"#!/bin/sh\n"),
    }


@contextmanager
def ide_hosts(arch: str) -> Iterator[IdeHosts]:
    """A mirror of all vendors, as the server's setting names one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.asked.append(self.path)
            hosts.open.wait(HELD_S)
            body = hosts.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Not into the output of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hosts = IdeHosts(f"http://127.0.0.1:{server.server_port}", published(arch))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        hosts.open.set()
        try:
            yield hosts
        finally:
            hosts.open.set()
            server.shutdown()
            thread.join(30)
