"""Images: present on the host, or pulled with progress."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any, Callable, Dict, Optional, Tuple

from dstack.agent.docker_client import DockerClient, EngineError, EngineUnreachable, quoted
from dstack.agent.machine import TaskFailed
from dstack.agentapi.wire import IMAGE_PULL, PullProgress, RegistryAuth

STALLED_S = 300.0  # without a word from the engine; there is no limit on the whole pull
TELL_EVERY_S = 0.5


async def find_image(docker: DockerClient, image: str) -> Optional[Dict[str, Any]]:
    """What the engine says about the image; None when the host does not have it."""
    try:
        return await docker.json("GET", "/images/%s/json" % quoted(image))
    except EngineError as e:
        if e.status in (400, 404):
            return None
        raise


async def pull_image(
    docker: DockerClient, image: str, auth: Optional[RegistryAuth], tell: Callable[[PullProgress], None]
) -> None:
    """Pull; `tell` hears of the progress now and then. Raises TaskFailed."""
    name, tag = split_name(image)
    headers = {"X-Registry-Auth": _auth(name, auth)} if auth else {}
    progress = Progress()
    paced = _Paced(lambda: tell(progress.sum()))
    try:
        async with await docker.open(
            "POST", "/images/create", {"fromImage": name, "tag": tag}, headers=headers
        ) as exchange:
            rest = b""
            async for piece in exchange.pieces(STALLED_S):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    _take(line, progress)
                paced.told_soon()
            _take(rest, progress)
    except (EngineError, EngineUnreachable, PullFailed) as e:
        raise TaskFailed(IMAGE_PULL, "The image %s cannot be pulled: %s" % (image, e)) from None
    finally:
        paced.close()
    tell(progress.sum())


class _Paced:
    """Tells at once, but not more often than now and then; the engine may be silent after what came too soon."""

    def __init__(self, tell: Callable[[], None]):
        self._tell = tell
        self._told = 0.0
        self._later: Optional[asyncio.TimerHandle] = None

    def told_soon(self) -> None:
        if self._later is None:
            left = self._told + TELL_EVERY_S - time.monotonic()
            self._later = asyncio.get_running_loop().call_later(max(0.0, left), self._now)

    def _now(self) -> None:
        self._later, self._told = None, time.monotonic()
        self._tell()

    def close(self) -> None:
        if self._later is not None:
            self._later.cancel()


class PullFailed(Exception):
    """The engine said so within a stream that began well."""


class Progress:
    """Sums what the engine tells about each layer."""

    def __init__(self) -> None:
        self._layers: Dict[str, Dict[str, int]] = {}

    def note(self, message: Dict[str, Any]) -> None:
        status = message.get("status", "")
        layer_id = message.get("id", "")
        if not layer_id or status.startswith(("Pulling from", "Digest", "Status")):
            return
        layer = self._layers.setdefault(layer_id, {"total": -1, "downloaded": 0, "extracted": 0})
        detail = message.get("progressDetail") or {}
        if status == "Already exists":
            layer["total"] = max(0, layer["total"])
        elif status == "Downloading":
            layer["total"] = max(layer["total"], int(detail.get("total") or -1))
            layer["downloaded"] = int(detail.get("current") or 0)
        elif status == "Extracting":  # an engine that is busy may not have told of the download
            layer["total"] = max(layer["total"], int(detail.get("total") or -1))
            layer["extracted"] = int(detail.get("current") or 0)
        elif status == "Pull complete":
            layer["total"] = max(0, layer["total"])
        if status in ("Download complete", "Extracting", "Pull complete"):
            layer["downloaded"] = max(layer["downloaded"], layer["total"])
        if status == "Pull complete":
            layer["extracted"] = max(layer["extracted"], layer["total"])

    def sum(self) -> PullProgress:
        layers = list(self._layers.values())
        return PullProgress(
            downloaded_bytes=sum(layer["downloaded"] for layer in layers),
            extracted_bytes=sum(layer["extracted"] for layer in layers),
            total_bytes=sum(max(0, layer["total"]) for layer in layers),
            total_final=bool(layers) and all(layer["total"] >= 0 for layer in layers),
        )


def split_name(image: str) -> Tuple[str, str]:
    """(name, tag or digest). Without a tag the engine would pull all of them: it is `latest`."""
    if "@" in image:
        name, digest = image.split("@", 1)
        return (name.rsplit(":", 1)[0] if ":" in name.rsplit("/", 1)[-1] else name), digest
    head, colon, tag = image.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return image, "latest"


def _take(line: bytes, progress: Progress) -> None:
    if not line.strip():
        return
    message = json.loads(line.decode())
    if "error" in message:
        raise PullFailed(str(message["error"]))
    progress.note(message)


def _auth(name: str, auth: RegistryAuth) -> str:
    first = name.split("/", 1)[0]
    server = first if "/" in name and ("." in first or ":" in first or first == "localhost") else "docker.io"
    account = {"username": auth.username, "password": auth.password, "serveraddress": server}
    return base64.urlsafe_b64encode(json.dumps(account).encode()).decode()
