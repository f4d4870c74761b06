"""A registry on loopback, which asks for a password unless told otherwise, with one image in it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

USER, PASSWORD = "ann", "s3cr3t-password"
HELD_S = 60.0
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def image(noise: int) -> tuple[bytes, dict[str, bytes]]:
    """(manifest, blobs by digest) of an image that holds busybox as /bin/sh and so many bytes of noise."""
    blobs: dict[str, bytes] = {}

    def add(data: bytes) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": digest, "size": len(data)}

    layers, diffs = [], []
    for name, data in (("bin/sh", Path("/bin/busybox").read_bytes()), ("noise", os.urandom(noise))):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
        diffs.append("sha256:" + hashlib.sha256(out.getvalue()).hexdigest())
        kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        layers.append({"mediaType": kind, **add(gzip.compress(out.getvalue(), 1))})
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}}
    config["architecture"] = "arm64" if os.uname().machine == "aarch64" else "amd64"
    reference = {"mediaType": "application/vnd.docker.container.image.v1+json", **add(json.dumps(config).encode())}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": reference, "layers": layers}
    return json.dumps(manifest).encode(), blobs


MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@asynccontextmanager
async def registry(
    noise: int = 300_000, gate: threading.Event | None = None, *, public: bool = False
) -> AsyncIterator[str]:
    """The address of a registry with the image `team/app:1`, whose layers are `noise` bytes and a little more.

    Of the largest layer it gives one half, and the other once `gate` is open. `public`: without a password.
    """
    manifest, blobs = image(noise)
    largest = max(len(blob) for blob in blobs.values())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1)
        if first != b"H" and first != b"G":  # the engine tries TLS before it speaks plainly
            writer.close()
            return
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        status, kind, body = "200 OK", "application/json", b"{}"
        extra = ""
        if not public and LOGIN not in head:
            status, body = "401 Unauthorized", b'{"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}'
            extra = 'WWW-Authenticate: Basic realm="test"\r\n'
        elif "/manifests/" in path:
            kind, body = MANIFEST, manifest
            extra = f"Docker-Content-Digest: sha256:{hashlib.sha256(manifest).hexdigest()}\r\n"
        elif "/blobs/" in path:
            kind, body = "application/octet-stream", blobs[path.rsplit("/", 1)[1]]
        lines = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        lines += f"Connection: close\r\n{extra}\r\n"
        body = b"" if method == "HEAD" else body
        half = len(body) // 2 if gate is not None and len(body) == largest else 0
        writer.write(lines.encode() + body[:half])
        await writer.drain()
        if gate is not None and half:
            await asyncio.to_thread(gate.wait, HELD_S)
        writer.write(body[half:])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextlib.contextmanager
def standing_registry(noise: int = 300_000, gate: threading.Event | None = None) -> Iterator[str]:
    """The same for tests without a loop of their own: it serves from a thread."""
    ready, address = threading.Event(), []
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with registry(noise, gate) as found:
            address.append(found)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()
